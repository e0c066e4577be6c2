# SPDX-License-Identifier: MIT
# Coverage, fuzzing, sanitizers, benchmarks and lint. The Makefile includes this file.

# Checks (but not lint), test suites and benchmarks write tables and rows of tables into this directory. scripts/results copies them
# into docs/.
RESULTS := $(BUILD)/results

.PHONY: results
results: ## copy the results of the last checks, kernels and benchmarks into docs/
	@mkdir -p $(RESULTS)
	@scripts/results $(RESULTS)

# `make coverage` fails if the unit tests of core/ run less than this percentage of the lines in core/.
COVERAGE_BAR := 95
COVERAGE := $(abspath $(BUILD))/coverage

.PHONY: coverage
coverage: ## measure the coverage of the core by its own tests (a minute)
	@mkdir -p $(COVERAGE) $(RESULTS)
	@$(MAKE) --no-print-directory BUILD=$(COVERAGE) CFLAGS='-O0 -g --coverage' $(BUILD)/coverage/test/core >$(COVERAGE)/make.log
	@find $(COVERAGE) -name '*.gcda' -delete
	@touch $(COVERAGE)/test/made
	@BUILD=$(COVERAGE) bats --formatter tap test/core.bats >$(COVERAGE)/results || { grep -v '^ok' $(COVERAGE)/results; exit 1; }
	@cd $(COVERAGE) && gcov --no-output core/*.gcda | \
		awk -v bar=$(COVERAGE_BAR) -v rows=$(abspath $(RESULTS))/coverage.rows -F"[:% ']+" '/^File/ {file = $$2} \
			/^Lines/ && file ~ /^core/ {print file ": " $$3 " % of " $$5 " lines"; hit += $$3 * $$5; all += $$5} \
			END {covered = sprintf("%.1f %% of %d lines", hit / all, all); \
				print "coverage: the core, by its own tests: " covered; \
				print "| line coverage of the core | its own suite (test/core.bats) | " covered " |" >rows; \
				exit hit < bar * all}'

# The fuzzers give random input to the functions that parse untrusted input. If FUZZ_RUNS is set, each fuzzer tries FUZZ_RUNS
# inputs. If FUZZ_RUNS is not set, all fuzzers together run for FUZZ_SECONDS.
FUZZ_SECONDS ?= 60
FUZZ_RUNS ?=
FUZZERS := cpuid payload settings proc supervise
FUZZ := $(BUILD)/fuzz
FUZZ_FLAGS := -std=gnu11 $(CPPFLAGS) -O2 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

$(FUZZ)/proc: EXTRA := command/proc_text.c shared/guest_name.c
$(FUZZ)/supervise: EXTRA := shared/helpers.c -lseccomp

$(FUZZ)/%: test/fuzz/%.c test/fuzz/fuzz.h $(wildcard core/* include/xsaveshim/* command/* supervise/* shared/*)
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -o $@ $< $(wildcard core/*.c) $(EXTRA)

.PHONY: fuzz
fuzz: $(addprefix $(FUZZ)/,$(FUZZERS)) ## run every fuzzer, FUZZ_SECONDS in all
	@test/fuzz/run $(if $(FUZZ_RUNS),$(FUZZ_RUNS)x,$(FUZZ_SECONDS)) $(FUZZ) $(RESULTS)/fuzz.rows $(FUZZERS)

# `make sanitize` runs the suites in SANITIZED twice: with everything built with ASan and UBSan, and with everything built with
# TSan. For the suites in SANITIZED_COMMAND, it builds only the command xsaveshim with ASan and UBSan. It runs supervise.bats once
# more, with only this command built with TSan. Neither list has the suites that inspect built files (elf, install, packages), that
# load the library into programs without a sanitizer (demo, libvirt, qemu, musl), or that measure times and memory (scale).
SANITIZED := $(addprefix test/,core.bats oracle.bats shim.bats settings.bats kvm.bats faults.bats)
SANITIZED_COMMAND := $(addprefix test/,probe.bats status.bats run.bats supervise.bats)

# `make sanitize` makes all four runs, even if one of them fails.
.PHONY: sanitize
sanitize: ## run suites under ASan and UBSan, and under TSan (5 minutes)
	@run() { test/tools/sanitize "$$@" || failed=yes; }; failed=; \
	run $(BUILD)/address address everything $(RESULTS)/sanitize-address.rows $(SANITIZED); \
	run $(BUILD)/thread thread everything $(RESULTS)/sanitize-thread.rows $(SANITIZED); \
	run $(BUILD)/address-command address command $(RESULTS)/sanitize-command.rows $(SANITIZED_COMMAND); \
	run $(BUILD)/thread-command thread command $(RESULTS)/sanitize-supervisor.rows test/supervise.bats; \
	test -z "$$failed"

BENCH_ROUNDS ?= 31
BENCHED := $(addprefix $(BUILD)/test/,bench supervised naive.so null.so stepcount scale vmm standin.so)

.PHONY: bench
bench: all $(BENCHED) ## measure the costs, BENCH_ROUNDS times (10 minutes)
	@test/bench/run $(BUILD) $(BENCH_ROUNDS) $(RESULTS)

# Every finding of the static analysers is an error. TIDY_CHECKS and TIDY_SHIPPED switch some of clang-tidy's checks off (the names
# with a minus): checks that demand the functions of C11's Annex K, such as memcpy_s(), that forbid casts from integers to pointers
# (ioctl's third argument may be an integer), or that are a matter of taste.
SHIPPED := $(filter-out %.bpf.c,$(wildcard core/*.c preload/*.c command/*.c supervise/*.c shared/*.c host/*.c))
TESTS := $(wildcard test/*/*.c)
SHELL_FILES = $(shell git ls-files | xargs awk \
	'FNR == 1 && (/^\#!.*sh$$/ || FILENAME ~ /[.]ba(sh|ts)$$/) {print FILENAME} {nextfile}')
LINT_FLAGS := -std=gnu11 $(CPPFLAGS) -Itest/include -isystem $(BUILD)/host
# `make lint` suppresses the findings of cppcheck that CPPCHECK_TASTE lists. Some of them are false: cppcheck does not know that
# must() (test/core/check.h) ends a test program, and that process_vm_readv() and bpf() fill buffers. Others are messages about
# cppcheck itself, or concern shadowed names (gcc's -Wshadow finds them better), casts from integers to pointers, parameters whose
# types libbpf prescribes for its callbacks, or matters of taste.
CPPCHECK_TASTE := variableScope arrayIndexThenCheck shadowFunction shadowVariable normalCheckLevelMaxBranches \
	nullPointerOutOfResources ctuuninitvar intToPointerCast constParameterPointer constVariable constParameterCallback
CPPCHECK := cppcheck -q --std=c11 --error-exitcode=1 $(foreach finding,$(CPPCHECK_TASTE),--suppress=$(finding)) \
	-Iinclude -I. -Itest/include -D_GNU_SOURCE=
TIDY := clang-tidy --quiet --warnings-as-errors='*'
TIDY_CHECKS := -*,clang-analyzer-*,-clang-analyzer-optin.*,-clang-analyzer-security.insecureAPI.*
TIDY_CHECKS := $(TIDY_CHECKS),-clang-analyzer-valist.Uninitialized
# Two more checks are off: StdCLibraryFunctions assumes failures that cannot happen (for example, that dirfd() fails for an open
# directory), and Vfork forbids that vfork's child calls functions, as it does in test/vmm/vmm.c.
TIDY_CHECKS := $(TIDY_CHECKS),-clang-analyzer-unix.StdCLibraryFunctions,-clang-analyzer-unix.Vfork
TIDY_SHIPPED := $(TIDY_CHECKS),bugprone-*,performance-*,portability-*,-bugprone-easily-swappable-parameters
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-narrowing-conversions,-bugprone-suspicious-string-compare
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-implicit-widening-of-multiplication-result,-performance-no-int-to-ptr
# The following check, which is off, forbids passing an array of pointers to realloc().
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-multi-level-implicit-pointer-conversion

# Ansible finds the collection xsaveshim.fleet only in a directory ansible_collections/xsaveshim/fleet. So `make lint` makes this
# path a symbolic link to deploy/ansible. ansible-lint's check meta-runtime[unsupported-version] is off, because it rejects each
# collection that supports Debian 12's Ansible.
COLLECTIONS := $(abspath $(BUILD))/ansible_collections/xsaveshim

# `make lint` runs every tool, even if one of them fails. Two warnings of gcc's -fanalyzer are off because they are false: that
# supervise/attach.c leaks descriptors (close_range() closes them), and that the naked function in preload/interpose.c returns an
# uninitialized value (its assembly code jumps to a function that returns a value).
.PHONY: lint
lint: $(BUILD)/host/programs.skel.h ## run every static analyser, and check the format
	@check() { echo "$$@"; "$$@" || failed=yes; }; failed=; \
	check shellcheck $(SHELL_FILES); \
	check $(CPPCHECK) --enable=warning,style,performance,portability $(SHIPPED); \
	check $(CPPCHECK) --enable=warning,performance,portability $(TESTS); \
	check $(TIDY) --checks='$(TIDY_SHIPPED)' $(SHIPPED) -- $(LINT_FLAGS); \
	check $(TIDY) --checks='$(TIDY_CHECKS)' $(TESTS) -- $(LINT_FLAGS); \
	for source in $(SHIPPED); do \
		case $$source in preload/*) naked=-Wno-analyzer-use-of-uninitialized-value ;; *) naked= ;; esac; \
		check $(CC) $(LINT_FLAGS) -O2 -fanalyzer -Wno-analyzer-fd-leak $$naked -Werror -c -o /dev/null $$source; \
	done; \
	check scripts/format --check; \
	mkdir -p $(COLLECTIONS) && ln -sfn $(CURDIR)/deploy/ansible $(COLLECTIONS)/fleet; \
	check yamllint --strict -c deploy/ansible/.yamllint deploy test/prometheus; \
	check env -C $(COLLECTIONS)/fleet ANSIBLE_COLLECTIONS_PATH=$(abspath $(BUILD)) ansible-lint --offline --strict --profile production -x 'meta-runtime[unsupported-version]'; \
	check mandoc -T lint -W warning $(wildcard man/*); \
	test -z "$$failed"
