// SPDX-License-Identifier: MIT
#include "retire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "pins.h"
#include "shared/helpers.h"

#define RETIRED "xsaveshim-retired-"
#define RELEASE_SECONDS 600

#define LISTINGS 25
#define LISTINGS_WITHOUT 3
#define LISTING_PAUSE_NS 200000000

// Computes the key of a BPF trampoline as the kernel's bpf_trampoline_compute_key() does.
static uint64_t trampoline_key(uint32_t btf_object, uint32_t btf_id)
{
	return btf_object ? (uint64_t)btf_object << 32 | 0x80000000 | btf_id : 0;
}

// Returns the key of the BPF trampoline that calls the program of a pinned link. Returns 0 if the
// link is missing or has no trampoline.
static uint64_t key_of_link(const char *path, uint32_t *program)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_obj_get(path);
	bool known = fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size) &&
		     info.type == BPF_LINK_TYPE_TRACING;

	if (fd >= 0)
		close(fd);
	*program = info.prog_id;
	return known ? trampoline_key(info.tracing.target_obj_id, info.tracing.target_btf_id) : 0;
}

// Returns the key of the BPF trampoline of a pinned program whose link is gone. Returns 0 on Linux
// before 6.0, because these kernels do not tell user space the key.
static uint64_t key_of_program(const char *path)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_obj_get(path);
	bool known = fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size);

	if (fd >= 0)
		close(fd);
	return known ? trampoline_key(info.attach_btf_obj_id, info.attach_btf_id) : 0;
}

// Pins the program of a pinned link, because an earlier version of xsaveshim may have pinned only
// the link. Returns the key of the program's trampoline, or 0 if the key is not known.
static uint64_t keep_program(const char *directory, const struct pin_names *names)
{
	uint32_t program;
	uint64_t key = key_of_link(pin_path(directory, names->link), &program);
	int fd = key ? bpf_prog_get_fd_by_id(program) : -1;

	if (fd >= 0) {
		bpf_obj_pin(fd, pin_path(directory, names->program));
		close(fd);
	}
	return key ? key : key_of_program(pin_path(directory, names->program));
}

static void unlink_programs(const char *directory)
{
	for (size_t i = 0; i < PIN_COUNT; i++)
		if (pin_names[i].program)
			unlink(pin_path(directory, pin_names[i].program));
	rmdir(directory);
}

static int64_t seconds_since_boot(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec;
}

// Removes the pins of retired sets of BPF programs: of each set that was retired at least
// RELEASE_SECONDS ago, and of each set whose trampoline has this key.
static void release(uint64_t key)
{
	DIR *directory = opendir(BPFFS);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		char path[sizeof(BPFFS "/") + sizeof(entry->d_name)];
		int64_t since;
		uint64_t retired_key;

		if (sscanf(entry->d_name, RETIRED "%" SCNd64 "-%" SCNu64, &since, &retired_key) !=
		    2)
			continue;
		if (since + RELEASE_SECONDS > seconds_since_boot() && (!key || retired_key != key))
			continue;
		snprintf(path, sizeof(path), BPFFS "/%s", entry->d_name);
		unlink_programs(path);
	}
	if (directory)
		closedir(directory);
}

void retire_release(void)
{
	release(0);
}

static bool is_set_to(const char *path, char wanted)
{
	char text[16];

	return read_file(AT_FDCWD, path, text, sizeof(text)) > 0 && text[0] == wanted;
}

static bool images_are_listed(void)
{
	return is_set_to("/proc/sys/net/core/bpf_jit_harden", '0') &&
	       is_set_to("/proc/sys/net/core/bpf_jit_kallsyms", '1');
}

static bool has_image(uint64_t key)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[512], name[64];
	bool found = !file;

	snprintf(name, sizeof(name), " bpf_trampoline_%" PRIu64, key);
	while (!found && fgets(line, sizeof(line), file)) {
		const char *start = strstr(line, name);

		// Older kernels add a suffix such as _1 to the name of a trampoline's image.
		found = start && strchr("_\t", start[strlen(name)]);
	}
	if (file)
		fclose(file);
	return found;
}

// Waits, about 5 seconds at most, until /proc/kallsyms lists no image (machine code) of the
// trampoline. Reads the file several times, because one reading can miss a name while the kernel
// removes another name.
static bool wait_for_end_of_images(uint64_t key)
{
	int without = 0;

	for (int i = 0; i < LISTINGS && without < LISTINGS_WITHOUT; i++) {
		without = has_image(key) ? 0 : without + 1;
		nanosleep(&(struct timespec){.tv_nsec = LISTING_PAUSE_NS}, NULL);
	}
	return without == LISTINGS_WITHOUT;
}

void retire(const char *directory)
{
	static unsigned int number;
	char retired[128];
	uint64_t key = 0;

	// If the directory's path is a symbolic link, removes only the link.
	if (!unlink(directory))
		return;
	for (size_t i = 0; i < PIN_COUNT; i++) {
		uint64_t found = pin_names[i].program ? keep_program(directory, &pin_names[i]) : 0;

		key = found ? found : key;
	}
	for (size_t i = 0; i < PIN_COUNT; i++)
		unlink(pin_path(directory, pin_names[i].link));
	if (!rmdir(directory) || errno == ENOENT)
		return;
	snprintf(retired, sizeof(retired), BPFFS "/" RETIRED "%" PRId64 "-%" PRIu64 "-%d-%u",
		 seconds_since_boot(), key, getpid(), number++);
	rename(directory, retired);
	// If another set of programs is attached to the same kernel function, /proc/kallsyms keeps
	// listing an image of the function's trampoline, so waiting would be useless.
	if (key && images_are_listed() && !pins_are_complete(PINS) && wait_for_end_of_images(key))
		release(key);
}
