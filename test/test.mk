# SPDX-License-Identifier: MIT
# Builds the programs that the test suites run, and runs the suites. The Makefile includes this file.

# make builds the program $(BUILD)/test/NAME from test/DIRECTORY/NAME.c, and the library $(BUILD)/test/NAME.so, which tests preload,
# from test/DIRECTORY/NAME.so.c.
TEST_DIRS := vmm preload standins tools
vpath %.c $(addprefix test/,$(TEST_DIRS) oracle bench)
TEST_NAMES := $(basename $(notdir $(wildcard $(TEST_DIRS:%=test/%/*.c)))) core oracle
GUESTS := $(patsubst test/guest/%.S,$(BUILD)/test/%.bin,$(wildcard test/guest/*.S))
# The static programs. A build with a sanitizer leaves them out, because sanitizers do not support static programs. vmm-static and
# vmm-musl are VMMs whose ioctls the library cannot see, because they have no loader and make raw system calls. "load" is static
# because it is the only file in the initramfs of a test's Linux guest.
STATIC := $(if $(findstring -fsanitize,$(CFLAGS)),,$(addprefix $(BUILD)/test/,vmm-static vmm-musl load))
TEST_COMPILE = $(COMPILE) -Itest/include

# The file "made" has the time of the last build. test/stale compares this time with the times of the sources.
.PHONY: test-programs
test-programs: all $(TEST_NAMES:%=$(BUILD)/test/%) $(GUESTS) $(STATIC) ## build what the suites run
	@touch $(BUILD)/test/made

$(BUILD)/test/%.so: %.so.c
	@mkdir -p $(@D)
	$(call show,CC)$(TEST_COMPILE) -fPIC -shared -o $@ $< -ldl

# Of the test programs, only core and oracle are linked with the objects of core/.
$(BUILD)/test/core $(BUILD)/test/oracle: $(CORE)

$(BUILD)/test/core: $(patsubst test/core/%.c,$(BUILD)/test-core/%.o,$(wildcard test/core/*.c))
	@mkdir -p $(@D)
	$(call show,LD)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl

$(BUILD)/test-core/%.o: test/core/%.c
	@mkdir -p $(@D)
	$(call show,CC)$(TEST_COMPILE) -c -o $@ $<

$(BUILD)/test/filtered: TEST_LIBS := -lseccomp

$(BUILD)/test/%: %.c
	@mkdir -p $(@D)
	$(call show,CC)$(TEST_COMPILE) -pthread -o $@ $(filter %.c %.o,$^) -ldl $(TEST_LIBS)

# musl-gcc does not search the directory in which Debian keeps the kernel's headers.
$(BUILD)/test/vmm-musl: KERNEL_HEADERS := -idirafter /usr/include -idirafter /usr/include/$(MULTIARCH)
$(BUILD)/test/vmm-musl: CC := musl-gcc
$(BUILD)/test/vmm-static $(BUILD)/test/vmm-musl: test/vmm/vmm.c
	@mkdir -p $(@D)
	$(call show,CC)$(TEST_COMPILE) $(KERNEL_HEADERS) -static -DRAW_IOCTL -pthread -o $@ $<

$(BUILD)/test/load: test/guest/load.c
	@mkdir -p $(@D)
	$(call show,CC)$(TEST_COMPILE) -static -o $@ $<

$(BUILD)/test/%.bin: test/guest/%.S
	@mkdir -p $(@D)
	$(call show,AS)$(AS) --32 -o $(@:.bin=.o) $< && $(LD) -m elf_i386 -Ttext=0x7c00 -e start --oformat binary -o $@ $(@:.bin=.o)

# Suites with the bats file tag "testbed" boot their own kernels in emulated machines.
TESTBED_SUITES = $(shell grep -l '^\# bats file_tags=.*testbed' test/*.bats)
# The suites in FLEET_SUITES take minutes, so only `make check-fleet` runs them.
FLEET_SUITES := $(addprefix test/,ansible.bats kernels-fleet.bats kernels-image.bats)
SUITES = $(filter-out $(TESTBED_SUITES) $(FLEET_SUITES),$(wildcard test/*.bats))

.PHONY: check check-kernels check-apparmor check-fleet check-distributions
check: ## run every suite that this machine can run (minutes)
	@type $(firstword $(CC)) bats musl-gcc >/dev/null 2>&1 && \
		printf '#include <%s>\n' seccomp.h jansson.h linux/kvm.h | $(CC) -E - >/dev/null 2>&1 || \
		{ echo 'make check: packages are missing; run: scripts/setup build test' >&2; exit 1; }
	@$(MAKE) --no-print-directory WERROR=-Werror test-programs
	@test/run $(SUITES)

check-kernels: test-programs ## build the testbed's kernels once, and run the suites inside them (a quarter of an hour)
	@test/kernels/build || echo '# a kernel could not be built: the suites that need this kernel will fail'
	@test/run --parallel $(filter-out test/apparmor.bats,$(TESTBED_SUITES))

check-apparmor: test-programs ## run libvirt under AppArmor inside a testbed kernel
	@test/run test/apparmor.bats

check-fleet: test-programs ## run the Ansible collection over ssh against three hosts in namespaces, Prometheus, and the image's containers
	@test/run --parallel $(filter test/kernels-%,$(FLEET_SUITES)) >$(BUILD)/fleet.tap & \
	test/run $(filter-out test/kernels-%,$(FLEET_SUITES)) test/metrics.bats test/prometheus.bats; here=$$?; \
	wait $$!; testbed=$$?; cat $(BUILD)/fleet.tap; exit $$((here | testbed))

DISTRIBUTIONS ?= trixie testing
check-distributions: ## run scripts/demo and scripts/test in the Debians of DISTRIBUTIONS, made once and kept (half an hour)
	@test/distributions/check $(RESULTS)/distributions.md $(DISTRIBUTIONS)
