// SPDX-License-Identifier: MIT
// Functions that the fuzzers share. MUST() aborts the fuzzer if the given condition is false.
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xsaveshim/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

// Removes `size` bytes (at most 8) from the input, and returns them as a number. If the input has
// fewer than `size` bytes, the upper bytes of the number are 0.
static inline uint64_t take(struct input *input, size_t size)
{
	uint64_t value = 0;

	if (size > input->size)
		size = input->size;
	memcpy(&value, input->data, size);
	input->data += size;
	input->size -= size;
	return value;
}

static inline struct vcpu take_vcpu(struct input *input)
{
	struct vcpu vcpu = {(enum vcpu_knowledge)(take(input, 1) % 3), (int)take(input, 4), 0, 0};

	if (vcpu.knowledge == VCPU_XCR0) {
		vcpu.guest_xcr0 = take(input, 8);
		vcpu.enabled_xcr0 = take(input, 1);
	}
	return vcpu;
}

// Returns a copy of the input's remaining bytes. The copy ends at the end of the allocated memory,
// so that a sanitizer sees a read past the end of the copy.
static inline void *take_rest(struct input *input)
{
	void *copy = malloc(input->size ? input->size : 1);

	MUST(copy);
	if (input->size)
		memcpy(copy, input->data, input->size);
	return copy;
}

static int log_pipe[2];

static inline struct log checked_log(void)
{
	struct log log = {0};

	if (!log_pipe[1])
		MUST(!pipe2(log_pipe, O_CLOEXEC | O_NONBLOCK));
	log_init_fd(&log, log_pipe[1], LOG_LEVEL_DEBUG);
	return log;
}

// Checks that each line in the log begins with "xsaveshim: level=", is shorter than 1,024 bytes,
// and has only printable characters.
static inline void check_log(void)
{
	static char text[65536];
	ssize_t size = read(log_pipe[0], text, sizeof(text));

	for (char *line = text, *end; size > 0; size -= end + 1 - line, line = end + 1) {
		end = memchr(line, '\n', (size_t)size);
		MUST(end && end - line < 1024 && !strncmp(line, "xsaveshim: level=", 17));
		for (char *c = line; c < end; c++)
			MUST(*c >= ' ' && *c < 0x7f);
	}
}

#endif
