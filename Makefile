# SPDX-License-Identifier: MIT
VERSION := 0.1.0

PREFIX ?= /usr
# The loader's own directory, so that the bare name works in LD_PRELOAD: lib/x86_64-linux-gnu on Debian, lib64 on Fedora.
MULTIARCH := $(shell $(CC) -print-multiarch)
LIBDIR ?= $(PREFIX)/$(if $(MULTIARCH),lib/$(MULTIARCH),$(if $(wildcard /usr/lib64),lib64,lib))
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DATADIR ?= $(PREFIX)/share/xsaveshim
DOCDIR ?= $(PREFIX)/share/doc/xsaveshim

BUILD ?= build
CFLAGS ?= -O2
WARNINGS := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
	-Wno-sign-conversion -Wpointer-arith -Wcast-qual -Wundef -Wformat=2
CPPFLAGS += -Iinclude -D_GNU_SOURCE= -DXSAVESHIM_VERSION='"$(VERSION)"'
COMPILE = $(CC) -std=gnu11 $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -MMD -MP

CORE := $(patsubst core/%.c,$(BUILD)/core/%.o,$(wildcard core/*.c))
LIBRARY := $(BUILD)/libxsaveshim.so
COMMAND := $(BUILD)/xsaveshim

.PHONY: all
all: $(LIBRARY) $(if $(wildcard command/main.c),$(COMMAND))

$(BUILD)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -fvisibility=hidden -c -o $@ $<

# No vector register and no endbr64 on the path of a foreign ioctl.
$(BUILD)/preload/%.o: preload/%.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -fvisibility=hidden -mgeneral-regs-only -fcf-protection=none -c -o $@ $<

$(LIBRARY): $(BUILD)/preload/interpose.o $(CORE) preload/libxsaveshim.map
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libxsaveshim.so -Wl,--version-script=preload/libxsaveshim.map \
		-Wl,-z,relro,-z,now,-z,nodelete,-z,noexecstack,-z,noseparate-code,-z,defs -Wl,--as-needed -o $@ $(filter %.o,$^) -ldl

COMMAND_OBJECTS := $(patsubst command/%.c,$(BUILD)/command/%.o,$(wildcard command/*.c))

$(BUILD)/command/%.o: command/%.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIE -c -o $@ $<

$(COMMAND): $(COMMAND_OBJECTS) $(CORE)
	$(CC) $(CFLAGS) $(LDFLAGS) -pie -Wl,-z,relro,-z,now -o $@ $^ -lseccomp -ljansson -ldl

# What the suites run: test/vmm/NAME.c is a program, test/vmm/NAME.so.c a library to preload.
TEST_LIBRARIES := $(patsubst test/vmm/%.so.c,$(BUILD)/test/%.so,$(wildcard test/vmm/*.so.c))
TEST_PROGRAMS := $(patsubst test/vmm/%.c,$(BUILD)/test/%,$(filter-out %.so.c,$(wildcard test/vmm/*.c)))

.PHONY: test-programs
test-programs: all $(TEST_LIBRARIES) $(TEST_PROGRAMS) $(BUILD)/test/canary.bin

$(BUILD)/test/%.so: test/vmm/%.so.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -shared -o $@ $< -ldl

$(BUILD)/test/%: test/vmm/%.c $(CORE)
	@mkdir -p $(@D)
	$(COMPILE) -pthread -o $@ $< $(CORE) -ldl

# Without libc's ioctl(), and without a loader: what only a supervisor reaches.
STATIC_VMMS := $(BUILD)/test/vmm-static $(BUILD)/test/vmm-musl

$(BUILD)/test/vmm-static: test/vmm/vmm.c
	@mkdir -p $(@D)
	$(COMPILE) -static -DRAW_IOCTL -pthread -o $@ $<

# musl-gcc does not look where Debian keeps the kernel's headers.
$(BUILD)/test/vmm-musl: KERNEL_HEADERS = -idirafter /usr/include -idirafter /usr/include/$(MULTIARCH)
$(BUILD)/test/vmm-musl: CC := musl-gcc
$(BUILD)/test/vmm-musl: test/vmm/vmm.c
	@mkdir -p $(@D)
	$(COMPILE) $(KERNEL_HEADERS) -static -DRAW_IOCTL -pthread -o $@ $<

$(BUILD)/test/canary.bin: test/guest/canary.S
	@mkdir -p $(@D)
	$(AS) --32 -o $(@:.bin=.o) $<
	$(LD) -m elf_i386 -Ttext=0x7c00 -e start --oformat binary -o $@ $(@:.bin=.o)

# What is installed: MODE:FILE:PLACE. Uninstalling removes the same places, and the directories that are ours alone.
INSTALLED := \
	0644:$(LIBRARY):$(LIBDIR)/libxsaveshim.so \
	0755:$(COMMAND):$(BINDIR)/xsaveshim \
	0644:man/xsaveshim.1:$(MANDIR)/man1/xsaveshim.1 \
	0644:man/libxsaveshim.7:$(MANDIR)/man7/libxsaveshim.7 \
	0644:completions/xsaveshim:$(PREFIX)/share/bash-completion/completions/xsaveshim \
	0644:README.md:$(DOCDIR)/README.md \
	0644:LICENSE:$(DOCDIR)/LICENSE
INSTALLED_DIRS = $(DOCDIR) $(DATADIR)

.PHONY: install uninstall
install: all
	@set -e; for item in $(INSTALLED); do \
		(IFS=:; set -- $$item; install -D -m "$$1" "$$2" "$(DESTDIR)$$3"); \
	done

uninstall:
	@set -e; for item in $(INSTALLED); do \
		(IFS=:; set -- $$item; rm -f "$(DESTDIR)$$3"); \
	done
	@for dir in $(INSTALLED_DIRS); do rmdir "$(DESTDIR)$$dir" 2>/dev/null || true; done

include packaging/packaging.mk

# Suites that boot kernels of their own carry the file tag testbed.
TESTBED_SUITES = $(shell grep -l '^\# bats file_tags=.*testbed' test/*.bats)
SUITES = $(filter-out $(TESTBED_SUITES),$(wildcard test/*.bats))

.PHONY: check check-kernels check-apparmor
check: test-programs $(STATIC_VMMS)
	@test/run $(SUITES)

check-kernels: test-programs $(STATIC_VMMS)
	@test/kernels/build
	@test/run --parallel $(filter-out test/apparmor.bats,$(TESTBED_SUITES))

check-apparmor: test-programs
	@test/run test/apparmor.bats

-include test/checks.mk

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(wildcard $(BUILD)/*/*.d)
