# SPDX-License-Identifier: MIT
# Checks of the code beside the suites. Included by the Makefile.

# Lines of the core that its own tests run, by file; fails below the bar, in percent.
COVERAGE_BAR := 95
COVERAGE := $(abspath $(BUILD))/coverage

.PHONY: coverage
coverage:
	$(MAKE) --no-print-directory BUILD=$(COVERAGE) CFLAGS='-O0 -g --coverage' $(COVERAGE)/test/core
	find $(COVERAGE) -name '*.gcda' -delete
	BUILD=$(COVERAGE) bats --print-output-on-failure test/core.bats
	cd $(COVERAGE) && gcov --no-output core/*.gcda | \
		awk -v bar=$(COVERAGE_BAR) -F"[:% ']+" '/^File/ {file = $$2} \
			/^Lines/ && file ~ /^core/ {print file ": " $$3 " % of " $$5 " lines"; hit += $$3 * $$5; all += $$5} \
			END {printf "the core: %.1f %% of %d lines\n", hit / all, all; exit hit < bar * all}'

# KVM as the judge of the core.
test-programs: $(BUILD)/test/oracle
$(BUILD)/test/oracle: test/oracle/oracle.c $(CORE)
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(CORE)

# libFuzzer on what takes hostile input, for FUZZ_SECONDS in all.
FUZZ_SECONDS ?= 60
FUZZERS := cpuid payload settings proc supervise
FUZZ := $(BUILD)/fuzz
FUZZ_FLAGS := -std=gnu11 $(CPPFLAGS) -Icommand -O2 -g -fno-omit-frame-pointer \
	-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

$(FUZZ)/proc: EXTRA := command/status_parse.c
$(FUZZ)/supervise: EXTRA := command/tracked.c -lseccomp

$(FUZZ)/%: test/fuzz/%.c test/fuzz/fuzz.h $(wildcard core/*.c include/xsaveshim/*.h command/*)
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -o $@ $< $(wildcard core/*.c) $(EXTRA)

.PHONY: fuzz
fuzz: $(addprefix $(FUZZ)/,$(FUZZERS))
	@test/fuzz/run $(FUZZ_SECONDS) $(FUZZ) $(FUZZERS)

# The suites with ASan and UBSan, then with TSan: what they run is built with the sanitizer, the shim included. The command
# has no threads.
SANITIZED := $(addprefix test/,core.bats oracle.bats shim.bats settings.bats kvm.bats faults.bats)
SANITIZED_COMMAND := $(addprefix test/,probe.bats status.bats run.bats supervise.bats)

.PHONY: sanitize
sanitize:
	@test/sanitize $(BUILD)/address address everything $(SANITIZED)
	@test/sanitize $(BUILD)/thread thread everything $(SANITIZED)
	@test/sanitize $(BUILD)/address-command address command $(SANITIZED_COMMAND)

# What it costs, next to what else could be used. Needs KVM.
BENCH_ROUNDS ?= 11
BENCHED := $(BUILD)/test/bench $(BUILD)/test/naive.so $(BUILD)/test/null.so

$(BUILD)/test/bench $(BUILD)/test/supervised: $(BUILD)/test/%: test/bench/%.c
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $<

$(BUILD)/test/%.so: test/bench/%.so.c
	@mkdir -p $(@D)
	$(COMPILE) -fPIC -shared -o $@ $< -ldl

.PHONY: bench
bench: all $(BENCHED) $(BUILD)/test/stepcount
	test/bench/run $(BUILD) $(BENCH_ROUNDS) docs
	scripts/readme docs/bench.md

# What reads the code: everything it finds is an error. Of clang-tidy's checks those are left out which ask for
# Annex K, which do not like integers in pointers (ioctl's arguments), or which are a matter of taste.
SHIPPED := $(wildcard core/*.c preload/*.c command/*.c)
TESTS := $(wildcard test/vmm/*.c test/oracle/*.c test/fuzz/*.c test/bench/*.c)
SHELL_FILES = $(shell git ls-files | xargs awk \
	'FNR == 1 && (/^\#!.*sh$$/ || FILENAME ~ /[.]ba(sh|ts)$$/) {print FILENAME} {nextfile}')
LINT_FLAGS := -std=gnu11 $(CPPFLAGS) -Icommand
CPPCHECK := cppcheck -q --std=c11 --error-exitcode=1 --suppress=variableScope --suppress=arrayIndexThenCheck \
	-Iinclude -Icommand -D_GNU_SOURCE=
TIDY := clang-tidy --quiet --warnings-as-errors='*'
TIDY_CHECKS := -*,clang-analyzer-*,-clang-analyzer-optin.*,-clang-analyzer-security.insecureAPI.*
TIDY_CHECKS := $(TIDY_CHECKS),-clang-analyzer-valist.Uninitialized
TIDY_SHIPPED := $(TIDY_CHECKS),bugprone-*,performance-*,portability-*,-bugprone-easily-swappable-parameters
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-narrowing-conversions,-bugprone-suspicious-string-compare
TIDY_SHIPPED := $(TIDY_SHIPPED),-bugprone-implicit-widening-of-multiplication-result,-performance-no-int-to-ptr

.PHONY: lint
lint:
	shellcheck -x -e SC2187 $(SHELL_FILES)
	$(CPPCHECK) --enable=warning,style,performance,portability $(SHIPPED)
	$(CPPCHECK) --enable=warning,performance,portability $(TESTS)
	$(TIDY) --checks='$(TIDY_SHIPPED)' $(SHIPPED) -- $(LINT_FLAGS)
	$(TIDY) --checks='$(TIDY_CHECKS)' $(TESTS) -- $(LINT_FLAGS)
	for source in $(SHIPPED); do \
		$(CC) $(LINT_FLAGS) -O2 -fanalyzer -Werror -c -o /dev/null $$source || exit; \
	done
	mandoc -T lint -W warning $(wildcard man/*)
