# SPDX-License-Identifier: MIT
VERSION := 0.2.0

PREFIX ?= /usr
# The dynamic loader searches the default LIBDIR, so LD_PRELOAD can name the library without a path. LIBDIR ends in
# lib/x86_64-linux-gnu on Debian, and in lib64 on Fedora. If the compiler prints nothing for -print-multiarch, as some
# versions of clang do, the Makefile checks whether /usr/lib/x86_64-linux-gnu exists.
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
# The .d files (dependencies) name objects by a relative path, but the test suites call make with an absolute path as BUILD. So this
# line makes a BUILD inside the source directory relative.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
CFLAGS ?= -O2
# make check and CI set WERROR=-Werror. -Werror is not the default, because a newer compiler may print more warnings.
WERROR ?=
WARNINGS = -Wall -Wextra -Wpedantic $(WERROR) -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
	-Wno-sign-conversion -Wpointer-arith -Wcast-qual -Wundef -Wformat=2
CPPFLAGS += -Iinclude -I. -D_GNU_SOURCE= -DXSAVESHIM_VERSION='"$(VERSION)"'
COMPILE = $(CC) -std=gnu11 $(CPPFLAGS) $(CFLAGS) $(WARNINGS) -MMD -MP

# A recipe that begins with $(call show,CC) prints a line such as "CC core/log.o". With V=1, make prints the command instead; with
# -s, make prints nothing.
SILENT := $(findstring s,$(firstword -$(MAKEFLAGS)))
show = $(if $(V),,@$(if $(SILENT),,echo '$1 $(patsubst $(BUILD)/%,%,$@)' &&))

CORE := $(patsubst core/%.c,$(BUILD)/core/%.o,$(wildcard core/*.c))
LIBRARY := $(BUILD)/libxsaveshim.so
COMMAND := $(BUILD)/xsaveshim

HOST := $(if $(and $(shell command -v clang),$(shell command -v bpftool)),$(BUILD)/xsaveshim-host)

.PHONY: all
all: $(LIBRARY) $(COMMAND) $(HOST) ## build the library, the command and the host mode (the default)
	$(if $(HOST),,@echo 'make: the host mode (xsaveshim host) is not built, because clang or bpftool is missing; run: scripts/setup build')

# Before make compiles a file that may include these headers, it checks that they are installed. So if a header is missing, make
# prints one clear message, instead of the compiler's errors for each of these files.
HEADERS := seccomp.h jansson.h $(if $(HOST),bpf/libbpf.h)
$(BUILD)/headers:
	@mkdir -p $(@D)
	@for header in $(HEADERS); do \
		echo "#include <$$header>" | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1 || \
			{ echo "make: <$$header> is missing; run: scripts/setup build" >&2; exit 1; }; \
	done
	@touch $@

.DELETE_ON_ERROR:

# make runs this rule for an unknown target, and `make -B` also runs it for each source file. For an existing file the rule does
# nothing. For an unknown target it prints "No rule to make target", because debhelper recognizes by these words that a target
# does not exist.
.DEFAULT:
	$(if $(wildcard $@),@:,$(error No rule to make target '$@': make help lists the targets))

.PHONY: help
help: ## print these lines
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-15s %s\n", $$1, $$2 }'

# The library's functions do not begin with endbr64, because endbr64 would add an instruction to each ioctl. With LTO, the linker
# would add endbr64 again. -fcf-protection=return marks the code as compatible with shadow stacks, so that a process that loads the
# library keeps its shadow stack.
LIBRARY_COMPILE = $(COMPILE) -fPIC -ffunction-sections -fvisibility=hidden -fno-lto -fcf-protection=none -fcf-protection=return

# An ioctl that the library only passes on runs no code of these objects, so they are optimized for size.
$(BUILD)/core/report.o $(BUILD)/core/settings.o: LIBRARY_COMPILE += $(if $(filter -O2 -O3,$(CFLAGS)),-Os)

$(BUILD)/core/%.o: core/%.c
	@mkdir -p $(@D)
	$(call show,CC)$(LIBRARY_COMPILE) -c -o $@ $<

# The library's ioctl function must not use a vector register.
$(BUILD)/preload/%.o: preload/%.c
	@mkdir -p $(@D)
	$(call show,CC)$(LIBRARY_COMPILE) -mgeneral-regs-only -c -o $@ $<

$(LIBRARY): $(BUILD)/preload/interpose.o $(CORE) preload/libxsaveshim.map
	$(call show,LD)$(CC) $(CFLAGS) $(LDFLAGS) -fno-lto -shared -Wl,-soname,libxsaveshim.so -Wl,--version-script=preload/libxsaveshim.map \
		-Wl,--gc-sections,-z,relro,-z,now,-z,nodelete,-z,noexecstack,-z,noseparate-code,-z,defs,-z,shstk -Wl,--as-needed -o $@ $(filter %.o,$^) -ldl

# HARDENING has _FORTIFY_SOURCE only if the compiler optimizes, because _FORTIFY_SOURCE needs this. With a sanitizer, HARDENING
# never has _FORTIFY_SOURCE, because _FORTIFY_SOURCE would hide calls of libc's functions from the sanitizer.
HARDENING ?= -fstack-protector-strong $(if $(findstring -fsanitize,$(CFLAGS)),,$(if $(filter -O1 -O2 -O3 -Os,$(CFLAGS)), \
	-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
SHARED_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard shared/*.c))
COMMAND_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard command/*.c supervise/*.c)) $(SHARED_OBJECTS)
# host/ has the source of xsaveshim-host (the program that `xsaveshim host` executes) and of the BPF programs (*.bpf.c) that
# xsaveshim-host loads.
HOST_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out %.bpf.c,$(wildcard host/*.c))) $(SHARED_OBJECTS)

$(sort $(COMMAND_OBJECTS) $(HOST_OBJECTS)): $(BUILD)/%.o: %.c | $(BUILD)/headers
	@mkdir -p $(@D)
	$(call show,CC)$(COMPILE) $(HARDENING) -fPIE -c -o $@ $<

$(COMMAND): $(COMMAND_OBJECTS) $(CORE)
	$(call show,LD)$(CC) $(CFLAGS) $(LDFLAGS) -pie -Wl,-z,relro,-z,now -pthread -o $@ $^ -lseccomp -ljansson -ldl

$(BUILD)/xsaveshim-host: $(HOST_OBJECTS) $(CORE)
	$(call show,LD)$(CC) $(CFLAGS) $(LDFLAGS) -pie -Wl,-z,relro,-z,now -o $@ $^ -lbpf -ljansson

# BTF contains the paths of the source files. -ffile-prefix-map replaces the source directory in these paths, so that builds in
# different directories are identical.
BPF_COMPILE = clang -std=gnu11 -g -ffile-prefix-map=$(CURDIR)=xsaveshim -O2 -target bpf -mcpu=v3 -ffreestanding -D__x86_64__ \
	-D__TARGET_ARCH_x86 -Iinclude -I. -idirafter /usr/include/$(MULTIARCH) -Wall -Wextra -Werror -Wno-unused-parameter -MMD -MP -MT $@ -MF $(@:.o=.d)

# bpftool removes all debugging information except BTF.
$(BUILD)/host/programs.bpf.o: host/programs.bpf.c | $(BUILD)/headers
	@mkdir -p $(@D)
	$(call show,BPF)$(BPF_COMPILE) -c -o $@.tmp $< && bpftool gen object $@ $@.tmp && rm $@.tmp

$(BUILD)/host/programs.skel.h: $(BUILD)/host/programs.bpf.o
	$(call show,SKEL)(echo '// NOLINTBEGIN' && bpftool gen skeleton $< name programs && echo '// NOLINTEND') >$@

# -isystem switches our warnings off for the header that bpftool generates.
$(BUILD)/host/loader.o: $(BUILD)/host/programs.skel.h
$(BUILD)/host/loader.o: CPPFLAGS += -isystem $(BUILD)/host

# Every installed file, as HOW:MODE:FILE:PLACE. If HOW is
# copy: install copies the file; fill: install copies the file and replaces words such as @BINDIR@ in the copy (see FILL_IN);
# settings: install copies the file if PLACE does not exist yet, and uninstall keeps PLACE if an administrator has changed it.
PAGES := README.md NEWS.md SECURITY.md LICENSE $(wildcard docs/*)
INSTALLED := \
	copy:0644:$(LIBRARY):$(LIBDIR)/libxsaveshim.so \
	copy:0755:$(COMMAND):$(BINDIR)/xsaveshim \
	settings:0644:etc/xsaveshim.conf:/etc/xsaveshim.conf \
	fill:0755:libvirt/xsaveshim-libvirt:$(SBINDIR)/xsaveshim-libvirt \
	fill:0644:libvirt/drop-in.conf:$(DATADIR)/libvirt/drop-in.conf \
	copy:0644:libvirt/apparmor:$(DATADIR)/libvirt/apparmor \
	copy:0644:deploy/prometheus/xsaveshim.rules.yml:$(DATADIR)/prometheus/xsaveshim.rules.yml \
	fill:0644:deploy/prometheus/xsaveshim-metrics.service:$(UNITDIR)/xsaveshim-metrics.service \
	copy:0644:deploy/prometheus/xsaveshim-metrics.timer:$(UNITDIR)/xsaveshim-metrics.timer \
	copy:0644:completions/xsaveshim:$(PREFIX)/share/bash-completion/completions/xsaveshim \
	copy:0644:man/xsaveshim.1:$(MANDIR)/man1/xsaveshim.1 \
	copy:0644:man/xsaveshim.conf.5:$(MANDIR)/man5/xsaveshim.conf.5 \
	copy:0644:man/libxsaveshim.7:$(MANDIR)/man7/libxsaveshim.7 \
	copy:0644:man/xsaveshim-libvirt.8:$(MANDIR)/man8/xsaveshim-libvirt.8 \
	$(foreach schema,$(wildcard schemas/*),copy:0644:$(schema):$(DATADIR)/$(schema)) \
	$(foreach page,$(PAGES),copy:0644:$(page):$(DOCDIR)/$(page))
ifneq ($(HOST),)
INSTALLED += copy:0755:$(HOST):$(LIBEXECDIR)/xsaveshim-host \
	settings:0644:host/xsaveshim-host.default:/etc/default/xsaveshim-host \
	fill:0644:host/xsaveshim-host.service:$(UNITDIR)/xsaveshim-host.service \
	fill:0644:host/xsaveshim-host-watch.service:$(UNITDIR)/xsaveshim-host-watch.service
endif
# Directories that have only xsaveshim's files. uninstall removes them in this order, each before its parent.
OUR_DIRS := $(DATADIR)/libvirt $(DATADIR)/prometheus $(DATADIR)/schemas $(DATADIR) $(DOCDIR)/docs $(DOCDIR)
# The loader finds a library by its bare name if ldconfig has put the library into the loader's cache. With DESTDIR, make does not
# run ldconfig, because ldconfig would change the running system's cache.
LDCONFIG := PATH="$$PATH:/usr/sbin:/sbin" ldconfig
FILL_IN := sed -e 's,@BINDIR@,$(BINDIR),' -e 's,@LIBDIR@,$(LIBDIR),' -e 's,@DATADIR@,$(DATADIR),' -e 's,@VERSION@,$(VERSION),'

# install writes each file under a temporary name and then renames it. So a process that starts meanwhile loads a whole library, the
# old or the new one.
.PHONY: install uninstall
install: all ## install under $(PREFIX), or below DESTDIR
	@set -e; for item in $(INSTALLED); do \
		(IFS=:; set -- $$item; how=$$1 mode=$$2 file=$$3 place="$(DESTDIR)$$4"; \
		test $$how != settings || ! test -e "$$place" || exit 0; \
		if test $$how = fill; then \
			install -D -m $$mode /dev/null "$$place.new" && $(FILL_IN) $$file >"$$place.new"; \
		else \
			install -D -m $$mode $$file "$$place.new"; \
		fi && mv -f "$$place.new" "$$place" || { rm -f "$$place.new"; exit 1; }) \
	done
ifeq ($(DESTDIR),)
	@$(LDCONFIG) 2>/dev/null; LD_PRELOAD=libxsaveshim.so /bin/true 2>&1 | grep -q . && \
		echo 'make: the loader does not look in $(LIBDIR): give LD_PRELOAD the whole path, $(LIBDIR)/libxsaveshim.so' || true
endif

# The systemd drop-in of xsaveshim-libvirt sets LD_PRELOAD for libvirt's daemon. uninstall removes the drop-in first, because
# without the library ld.so would print an error into each domain's log. If xsaveshim-libvirt exits with 1, uninstall continues,
# because the drop-in is gone: only a restart of libvirt's daemon or the removal of a test domain has failed.
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
include test/test.mk
include test/checks.mk

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD)

-include $(wildcard $(BUILD)/*/*.d)
