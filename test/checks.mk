# SPDX-License-Identifier: MIT
# The checks that are no suites. The Makefile includes this file.

# Each check leaves rows of a table here, which scripts/results copies into docs/testing.md.
RESULTS := $(BUILD)/results

.PHONY: results
results: ## copy the results of the last checks, kernels and benchmarks into docs/
	@mkdir -p $(RESULTS)
	@scripts/results $(RESULTS)

# Measures which lines of each file of the core its unit tests run. Fails if the sum is below this bar, in percent.
COVERAGE_BAR := 95
COVERAGE := $(abspath $(BUILD))/coverage

.PHONY: coverage
coverage: ## measure what the core's own tests cover (a minute)
	@mkdir -p $(COVERAGE) $(RESULTS)
	@$(MAKE) --no-print-directory BUILD=$(COVERAGE) CFLAGS='-O0 -g --coverage' $(BUILD)/coverage/test/core >$(COVERAGE)/make.log
	@find $(COVERAGE) -name '*.gcda' -delete
	@BUILD=$(COVERAGE) bats --formatter tap test/core.bats >$(COVERAGE)/results || { grep -v '^ok' $(COVERAGE)/results; exit 1; }
	@cd $(COVERAGE) && gcov --no-output core/*.gcda | \
		awk -v bar=$(COVERAGE_BAR) -v rows=$(abspath $(RESULTS))/coverage.rows -F"[:% ']+" '/^File/ {file = $$2} \
			/^Lines/ && file ~ /^core/ {print file ": " $$3 " % of " $$5 " lines"; hit += $$3 * $$5; all += $$5} \
			END {covered = sprintf("%.1f %% of %d lines", hit / all, all); \
				print "coverage: the core, by its own tests: " covered; \
				print "| line coverage of the core | its own suite (test/core.bats) | " covered " |" >rows; \
				exit hit < bar * all}'

# libFuzzer feeds the functions that read hostile input, for FUZZ_SECONDS in all; or each fuzzer makes FUZZ_RUNS executions.
FUZZ_SECONDS ?= 60
FUZZ_RUNS ?=
FUZZERS := cpuid payload settings proc supervise
FUZZ := $(BUILD)/fuzz
FUZZ_FLAGS := -std=gnu11 $(CPPFLAGS) -O2 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

$(FUZZ)/proc: EXTRA := command/proc_text.c shared/guest_name.c
$(FUZZ)/supervise: EXTRA := supervise/tracked.c -lseccomp

$(FUZZ)/%: test/fuzz/%.c test/fuzz/fuzz.h $(wildcard core/* include/xsaveshim/* command/* supervise/* shared/*)
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -o $@ $< $(wildcard core/*.c) $(EXTRA)

.PHONY: fuzz
fuzz: $(addprefix $(FUZZ)/,$(FUZZERS)) ## run every fuzzer, FUZZ_SECONDS in all
	@test/fuzz/run $(if $(FUZZ_RUNS),$(FUZZ_RUNS)x,$(FUZZ_SECONDS)) $(FUZZ) $(RESULTS)/fuzz.rows $(FUZZERS)

# The suites with ASan and UBSan, then with TSan: what they run is built with the sanitizer, the shim included. Not run so: what is
# about the built files (elf, install, packages), QEMU's own suites (demo, libvirt, qemu: QEMU has no sanitizer), times and memory
# (scale), shells (completion), another libc (musl).
SANITIZED := $(addprefix test/,core.bats oracle.bats shim.bats settings.bats kvm.bats faults.bats)
SANITIZED_COMMAND := $(addprefix test/,probe.bats status.bats run.bats supervise.bats)

# All of them, whatever comes of the first.
.PHONY: sanitize
sanitize: ## run suites under ASan and UBSan, and under TSan (5 minutes)
	@run() { test/tools/sanitize "$$@" || failed=yes; }; failed=; \
	run $(BUILD)/address address everything $(RESULTS)/sanitize-address.rows $(SANITIZED); \
	run $(BUILD)/thread thread everything $(RESULTS)/sanitize-thread.rows $(SANITIZED); \
	run $(BUILD)/address-command address command $(RESULTS)/sanitize-command.rows $(SANITIZED_COMMAND); \
	run $(BUILD)/thread-command thread command $(RESULTS)/sanitize-supervisor.rows test/supervise.bats; \
	test -z "$$failed"

# What it costs, next to what else could be used.
BENCH_ROUNDS ?= 31
BENCHED := $(addprefix $(BUILD)/test/,bench supervised naive.so null.so stepcount scale vmm standin.so)

.PHONY: bench
bench: all $(BENCHED) ## measure the costs, BENCH_ROUNDS times (10 minutes)
	@test/bench/run $(BUILD) $(BENCH_ROUNDS) $(RESULTS)

# Static analysis: every finding is an error. We leave out those checks of clang-tidy that ask for C11's Annex K, that forbid
# integers in pointers (ioctl's arguments are such), or that are a matter of taste.
SHIPPED := $(filter-out %.bpf.c,$(wildcard core/*.c preload/*.c command/*.c supervise/*.c shared/*.c host/*.c))
TESTS := $(wildcard test/*/*.c)
SHELL_FILES = $(shell git ls-files | xargs awk \
	'FNR == 1 && (/^\#!.*sh$$/ || FILENAME ~ /[.]ba(sh|ts)$$/) {print FILENAME} {nextfile}')
LINT_FLAGS := -std=gnu11 $(CPPFLAGS) -Itest/include -isystem $(BUILD)/host
# What cppcheck finds that is a matter of taste, that gcc's -Wshadow sees with more sense, that tells of cppcheck itself; that does
# not know must(), which ends a test program, nor process_vm_readv() and bpf(), which fill what they are given; what libbpf's type
# of a callback asks for; and integers in pointers.
CPPCHECK_TASTE := variableScope arrayIndexThenCheck shadowFunction shadowVariable normalCheckLevelMaxBranches \
	nullPointerOutOfResources ctuuninitvar intToPointerCast constParameterPointer constVariable constParameterCallback
CPPCHECK := cppcheck -q --std=c11 --error-exitcode=1 $(foreach finding,$(CPPCHECK_TASTE),--suppress=$(finding)) \
	-Iinclude -I. -Itest/include -D_GNU_SOURCE=
TIDY := clang-tidy --quiet --warnings-as-errors='*'
TIDY_CHECKS := -*,clang-analyzer-*,-clang-analyzer-optin.*,-clang-analyzer-security.insecureAPI.*
TIDY_CHECKS := $(TIDY_CHECKS),-clang-analyzer-valist.Uninitialized
# One has dirfd() fail for an open directory; the other does not like a VMM that goes on in vfork's child.
TIDY_CHECKS := $(TIDY_CHECKS),-clang-analyzer-unix.StdCLibraryFunctions,-clang-analyzer-unix.Vfork
TIDY_SHIPPED := $(TIDY_CHECKS),bugprone-*,performance-*,portability-*,-bugprone-easily-swappable-parameters
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-narrowing-conversions,-bugprone-suspicious-string-compare
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-implicit-widening-of-multiplication-result,-performance-no-int-to-ptr
# It does not like arrays of pointers that grow and are moved.
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-multi-level-implicit-pointer-conversion

# Every reader is heard, whatever those before it found. gcc's -fanalyzer does not know close_range(), by which supervise/attach.c
# lets go of its descriptors, nor that the naked function of preload/interpose.c returns by its own assembly.
.PHONY: lint
lint: $(BUILD)/host/programs.skel.h ## read the code with everything that finds faults in it
	@hear() { echo "$$@"; "$$@" || failed=yes; }; failed=; \
	hear shellcheck $(SHELL_FILES); \
	hear $(CPPCHECK) --enable=warning,style,performance,portability $(SHIPPED); \
	hear $(CPPCHECK) --enable=warning,performance,portability $(TESTS); \
	hear $(TIDY) --checks='$(TIDY_SHIPPED)' $(SHIPPED) -- $(LINT_FLAGS); \
	hear $(TIDY) --checks='$(TIDY_CHECKS)' $(TESTS) -- $(LINT_FLAGS); \
	for source in $(SHIPPED); do \
		case $$source in preload/*) naked=-Wno-analyzer-use-of-uninitialized-value ;; *) naked= ;; esac; \
		hear $(CC) $(LINT_FLAGS) -O2 -fanalyzer -Wno-analyzer-fd-leak $$naked -Werror -c -o /dev/null $$source; \
	done; \
	hear scripts/format --check; \
	hear mandoc -T lint -W warning $(wildcard man/*); \
	test -z "$$failed"
