# SPDX-License-Identifier: MIT
VERSION := 0.2.0

PREFIX ?= /usr
# The loader searches this directory by itself, so that LD_PRELOAD can name the library without a path: lib/x86_64-linux-gnu on
# Debian, lib64 on Fedora.
# A compiler that does not tell it, such as clang: the distribution's.
MULTIARCH := $(or $(shell $(CC) -print-multiarch 2>/dev/null),$(notdir $(wildcard /usr/lib/x86_64-linux-gnu)))
LIBDIR ?= $(PREFIX)/$(if $(MULTIARCH),lib/$(MULTIARCH),$(if $(wildcard /usr/lib64),lib64,lib))
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
LIBEXECDIR ?= $(PREFIX)/libexec
UNITDIR ?= $(PREFIX)/lib/systemd/system
MANDIR ?= $(PREFIX)/share/man
DATADIR ?= $(PREFIX)/share/xsaveshim
DOCDIR ?= $(PREFIX)/share/doc/xsaveshim

BUILD ?= build
# One name for one directory: what the compiler notes of headers goes by the object's name, so that by another name, such as the
# absolute one that the suites give, no object would be rebuilt when a header changes.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
CFLAGS ?= -O2
# make check, make lint and CI set WERROR: a compiler newer than ours may warn of more, and must not keep anybody from building.
WERROR ?=
WARNINGS = -Wall -Wextra -Wpedantic $(WERROR) -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
	-Wno-sign-conversion -Wpointer-arith -Wcast-qual -Wundef -Wformat=2
CPPFLAGS += -Iinclude -I. -D_GNU_SOURCE= -DXSAVESHIM_VERSION='"$(VERSION)"'
COMPILE = $(CC) -std=gnu11 $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -MMD -MP

CORE := $(patsubst core/%.c,$(BUILD)/core/%.o,$(wildcard core/*.c))
LIBRARY := $(BUILD)/libxsaveshim.so
COMMAND := $(BUILD)/xsaveshim

HOST := $(if $(and $(shell command -v clang),$(shell command -v bpftool)),$(BUILD)/xsaveshim-host)

.PHONY: all
all: $(LIBRARY) $(COMMAND) $(HOST) ## build the library, the command and the host mode (the default)
	$(if $(HOST),,@echo 'make: without clang and bpftool the host mode (xsaveshim host) is not built: scripts/setup build')

.PHONY: help
help: ## print these lines
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-15s %s\n", $$1, $$2 }'

# What is linked into the library. Without LTO, at which endbr64 would come back: it costs every ioctl an instruction. With what a
# shadow stack needs, so that a process that has one keeps it.
LIBRARY_COMPILE = $(COMPILE) -fPIC -fvisibility=hidden -fno-lto -fcf-protection=none -fcf-protection=return

$(BUILD)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(LIBRARY_COMPILE) -c -o $@ $<

# The compiler must not use a vector register on the path of an ioctl.
$(BUILD)/preload/%.o: preload/%.c
	@mkdir -p $(@D)
	$(LIBRARY_COMPILE) -mgeneral-regs-only -c -o $@ $<

$(LIBRARY): $(BUILD)/preload/interpose.o $(CORE) preload/libxsaveshim.map
	$(CC) $(CFLAGS) $(LDFLAGS) -fno-lto -shared -Wl,-soname,libxsaveshim.so -Wl,--version-script=preload/libxsaveshim.map \
		-Wl,-z,relro,-z,now,-z,nodelete,-z,noexecstack,-z,noseparate-code,-z,defs,-z,shstk -Wl,--as-needed -o $@ $(filter %.o,$^) -ldl

# FORTIFY needs optimisation, and hides calls from the sanitizers.
HARDENING ?= -fstack-protector-strong $(if $(findstring -fsanitize,$(CFLAGS)),,$(if $(filter -O1 -O2 -O3 -Os,$(CFLAGS)), \
	-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
COMMAND_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard command/*.c supervise/*.c shared/*.c))

$(BUILD)/command/%.o: command/%.c
	@mkdir -p $(@D)
	$(COMPILE) $(HARDENING) -fPIE -c -o $@ $<

$(BUILD)/supervise/%.o: supervise/%.c
	@mkdir -p $(@D)
	$(COMPILE) $(HARDENING) -fPIE -c -o $@ $<

$(BUILD)/shared/%.o: shared/%.c
	@mkdir -p $(@D)
	$(COMPILE) $(HARDENING) -fPIE -c -o $@ $<

$(COMMAND): $(COMMAND_OBJECTS) $(CORE)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -Wl,-z,relro,-z,now -pthread -o $@ $^ -lseccomp -ljansson -ldl

# The host mode: BPF programs, and the helper that `xsaveshim host` executes.
HOST_OBJECTS := $(patsubst host/%.c,$(BUILD)/host/%.o,$(filter-out %.bpf.c,$(wildcard host/*.c))) \
	$(patsubst %.c,$(BUILD)/%.o,$(wildcard shared/*.c))
BPF_COMPILE = clang -std=gnu11 -g -O2 -target bpf -mcpu=v3 -ffreestanding -D__x86_64__ -D__TARGET_ARCH_x86 -Iinclude -I. \
	-idirafter /usr/include/$(MULTIARCH) -Wall -Wextra -Werror -Wno-unused-parameter -MMD -MP -MT $@ -MF $(@:.o=.d)

# bpftool leaves out what is for debuggers alone.
$(BUILD)/host/programs.bpf.o: host/programs.bpf.c
	@mkdir -p $(@D)
	$(BPF_COMPILE) -c -o $@.tmp $<
	bpftool gen object $@ $@.tmp
	@rm $@.tmp

$(BUILD)/host/programs.skel.h: $(BUILD)/host/programs.bpf.o
	(echo '// NOLINTBEGIN' && bpftool gen skeleton $< name programs && echo '// NOLINTEND') >$@

# What bpftool writes is not held to our warnings and lint.
$(BUILD)/host/loader.o: $(BUILD)/host/programs.skel.h
$(BUILD)/host/loader.o: CPPFLAGS += -isystem $(BUILD)/host

$(BUILD)/host/%.o: host/%.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIE -c -o $@ $<

$(BUILD)/xsaveshim-host: $(HOST_OBJECTS) $(CORE)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -Wl,-z,relro,-z,now -o $@ $^ -lbpf -ljansson

# The programs that the suites run: test/DIRECTORY/NAME.c becomes $(BUILD)/test/NAME, and test/DIRECTORY/NAME.so.c a library to preload.
TEST_DIRS := vmm preload standins tools
vpath %.c $(addprefix test/,$(TEST_DIRS) oracle bench)
TEST_NAMES := $(basename $(notdir $(wildcard $(TEST_DIRS:%=test/%/*.c)))) core oracle
GUESTS := $(patsubst test/guest/%.S,$(BUILD)/test/%.bin,$(wildcard test/guest/*.S))
TEST_COMPILE = $(COMPILE) -Itest/include

.PHONY: test-programs
test-programs: all $(TEST_NAMES:%=$(BUILD)/test/%) $(GUESTS) ## build what the suites run

$(BUILD)/test/%.so: %.so.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) -fPIC -shared -o $@ $< -ldl

# Only these two programs are linked with the core.
$(BUILD)/test/core $(BUILD)/test/oracle: $(CORE)

# The core's unit tests are one program of several files.
$(BUILD)/test/core: $(patsubst test/core/%.c,$(BUILD)/test-core/%.o,$(wildcard test/core/*.c))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -ldl

$(BUILD)/test-core/%.o: test/core/%.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) -c -o $@ $<

$(BUILD)/test/filtered: TEST_LIBS := -lseccomp

$(BUILD)/test/%: %.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) -pthread -o $@ $(filter %.c %.o,$^) -ldl $(TEST_LIBS)

# The guest under load has no other file, so its program is static.
$(BUILD)/test/load: test/guest/load.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) -static -o $@ $<

# VMMs without libc's ioctl() and without a loader: only the supervisor can serve them.
STATIC_VMMS := $(BUILD)/test/vmm-static $(BUILD)/test/vmm-musl

$(BUILD)/test/vmm-static: test/vmm/vmm.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) -static -DRAW_IOCTL -pthread -o $@ $<

# musl-gcc does not search the directory in which Debian keeps the kernel's headers.
$(BUILD)/test/vmm-musl: KERNEL_HEADERS = -idirafter /usr/include -idirafter /usr/include/$(MULTIARCH)
$(BUILD)/test/vmm-musl: CC := musl-gcc
$(BUILD)/test/vmm-musl: test/vmm/vmm.c
	@mkdir -p $(@D)
	$(TEST_COMPILE) $(KERNEL_HEADERS) -static -DRAW_IOCTL -pthread -o $@ $<

$(BUILD)/test/%.bin: test/guest/%.S
	@mkdir -p $(@D)
	$(AS) --32 -o $(@:.bin=.o) $<
	$(LD) -m elf_i386 -Ttext=0x7c00 -e start --oformat binary -o $@ $(@:.bin=.o)

# Everything that is installed, as HOW:MODE:FILE:PLACE. HOW is
# copy: the file as it is; fill: the file with the directories below filled in;
# settings: a file that its reader may change, so that neither installing nor uninstalling touches one that differs.
PAGES := README.md NEWS.md SECURITY.md LICENSE $(wildcard docs/*)
INSTALLED := \
	copy:0644:$(LIBRARY):$(LIBDIR)/libxsaveshim.so \
	copy:0755:$(COMMAND):$(BINDIR)/xsaveshim \
	settings:0644:etc/xsaveshim.conf:/etc/xsaveshim.conf \
	fill:0755:libvirt/xsaveshim-libvirt:$(SBINDIR)/xsaveshim-libvirt \
	fill:0644:libvirt/drop-in.conf:$(DATADIR)/libvirt/drop-in.conf \
	copy:0644:libvirt/apparmor:$(DATADIR)/libvirt/apparmor \
	copy:0644:completions/xsaveshim:$(PREFIX)/share/bash-completion/completions/xsaveshim \
	copy:0644:man/xsaveshim.1:$(MANDIR)/man1/xsaveshim.1 \
	copy:0644:man/xsaveshim.conf.5:$(MANDIR)/man5/xsaveshim.conf.5 \
	copy:0644:man/libxsaveshim.7:$(MANDIR)/man7/libxsaveshim.7 \
	copy:0644:man/xsaveshim-libvirt.8:$(MANDIR)/man8/xsaveshim-libvirt.8 \
	$(foreach page,$(PAGES),copy:0644:$(page):$(DOCDIR)/$(page))
ifneq ($(HOST),)
INSTALLED += copy:0755:$(HOST):$(LIBEXECDIR)/xsaveshim-host \
	fill:0644:host/xsaveshim-host.service:$(UNITDIR)/xsaveshim-host.service \
	fill:0644:host/xsaveshim-host-watch.service:$(UNITDIR)/xsaveshim-host-watch.service
endif
# Directories that hold nothing but our files, each before the one that it is in.
OUR_DIRS := $(DATADIR)/libvirt $(DATADIR) $(DOCDIR)/docs $(DOCDIR)
# The loader finds a library by its name if the loader's cache lists it; ldconfig writes that cache. With DESTDIR the cache belongs to
# another system, and a plain user may not write it.
LDCONFIG := PATH="$$PATH:/usr/sbin:/sbin" ldconfig
FILL_IN := sed -e 's,@BINDIR@,$(BINDIR),' -e 's,@LIBDIR@,$(LIBDIR),' -e 's,@DATADIR@,$(DATADIR),' -e 's,@VERSION@,$(VERSION),'

.PHONY: install uninstall
install: all ## install under $(PREFIX), or below DESTDIR
	@set -e; for item in $(INSTALLED); do \
		(IFS=:; set -- $$item; how=$$1 mode=$$2 file=$$3 place="$(DESTDIR)$$4"; \
		case $$how in \
			copy) install -D -m $$mode $$file "$$place" ;; \
			fill) $(FILL_IN) $$file | install -D -m $$mode /dev/stdin "$$place" ;; \
			settings) test -e "$$place" || install -D -m $$mode $$file "$$place" ;; \
		esac) \
	done
ifeq ($(DESTDIR),)
	@$(LDCONFIG) 2>/dev/null; LD_PRELOAD=libxsaveshim.so /bin/true 2>&1 | grep -q . && \
		echo 'make: the loader does not look in $(LIBDIR): give LD_PRELOAD the whole path, $(LIBDIR)/libxsaveshim.so' || true
endif

# A drop-in that names a library which is gone would have ld.so complain in the log of every domain. Exit status 1: it is
# gone, and the daemon does not restart.
uninstall: ## remove what install put there, and what xsaveshim-libvirt enabled; changed settings stay
	@if grep -qs '=$(LIBDIR)/libxsaveshim\.so$$' "$(DESTDIR)"/etc/systemd/system/*.service.d/xsaveshim.conf; then \
		bash libvirt/xsaveshim-libvirt disable $(if $(DESTDIR),--root "$(DESTDIR)") || test $$? -eq 1; \
	fi
	@set -e; for item in $(INSTALLED); do \
		(IFS=:; set -- $$item; how=$$1 file=$$3 place="$(DESTDIR)$$4"; \
		test $$how = settings && ! cmp -s $$file "$$place" || rm -f "$$place"); \
	done
	@for dir in $(OUR_DIRS); do rmdir "$(DESTDIR)$$dir" 2>/dev/null || true; done
	$(if $(DESTDIR),,@$(LDCONFIG) 2>/dev/null || true)

include packaging/packaging.mk

# Suites that boot kernels of their own carry the file tag testbed.
TESTBED_SUITES = $(shell grep -l '^\# bats file_tags=.*testbed' test/*.bats)
SUITES = $(filter-out $(TESTBED_SUITES) test/ansible.bats,$(wildcard test/*.bats))

.PHONY: check check-kernels check-apparmor check-fleet check-distributions
check: ## run every suite that this machine can run (minutes)
	@type $(firstword $(CC)) bats musl-gcc >/dev/null 2>&1 && \
		printf '#include <%s>\n' seccomp.h jansson.h linux/kvm.h | $(CC) -E - >/dev/null 2>&1 || \
		{ echo 'make check: packages are missing; run: scripts/setup build test' >&2; exit 1; }
	@$(MAKE) --no-print-directory WERROR=-Werror test-programs $(STATIC_VMMS)
	@test/run $(SUITES)

check-kernels: test-programs $(STATIC_VMMS) $(BUILD)/test/load ## build the testbed's kernels once, and run the suites inside them (a quarter of an hour)
	@test/kernels/build || echo '# the suites that need a kernel which could not be built fail'
	@test/run --parallel $(filter-out test/apparmor.bats,$(TESTBED_SUITES))

check-apparmor: test-programs ## run libvirt under AppArmor inside a testbed kernel
	@test/run test/apparmor.bats

check-fleet: test-programs ## run the Ansible collection over ssh against three hosts in namespaces
	@test/run test/ansible.bats

DISTRIBUTIONS ?= trixie testing
check-distributions: ## run scripts/demo and scripts/test in the Debians of DISTRIBUTIONS, made once and kept (half an hour)
	@test/distributions/check $(RESULTS)/distributions.md $(DISTRIBUTIONS)

include test/checks.mk

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD)

-include $(wildcard $(BUILD)/*/*.d)
