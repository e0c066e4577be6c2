// SPDX-License-Identifier: MIT
// mapreader: prints "reading", and then reads a 4 MiB value from a BPF map again and again, until
// somebody kills this process. The kernel may preempt this process in the middle of a read. Until
// the read continues, the kernel skips the BPF programs of all kprobes on the CPU of this process.
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VALUE_SIZE (4 << 20)

static int call_bpf(enum bpf_cmd command, union bpf_attr *attributes)
{
	int result = (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));

	if (result < 0) {
		perror("mapreader: bpf");
		exit(2);
	}
	return result;
}

int main(void)
{
	union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY,
			      .key_size = sizeof(uint32_t),
			      .value_size = VALUE_SIZE,
			      .max_entries = 1};
	static char value[VALUE_SIZE];
	const uint32_t key = 0;
	union bpf_attr lookup = {.map_fd = (uint32_t)call_bpf(BPF_MAP_CREATE, &map)};

	lookup.key = (uintptr_t)&key;
	lookup.value = (uintptr_t)value;
	puts("reading");
	fflush(stdout);
	for (;;)
		call_bpf(BPF_MAP_LOOKUP_ELEM, &lookup);
}
