// SPDX-License-Identifier: MIT
// A VMM is a process that holds a vCPU. The library serves it if the library is mapped, and if the
// library's record says that it has seen a vCPU. A supervisor serves it if the VMM has a seccomp
// filter, and if there is a process that holds the listener of a filter ("anon_inode:seccomp
// notify") and a pidfd of the VMM (the pidfd's fdinfo has its "Pid:"), runs this command, and has
// the user ids of root or of the VMM. The settings are those in the record of the library or of the
// supervisor.
#include "inspect.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proc_text.h"
#include "shared/guest_name.h"
#include "shared/helpers.h"
#include "xsaveshim/record.h"

#define LIBRARY "libxsaveshim.so"
#define VCPU_LINK "anon_inode:kvm-vcpu:"
#define LISTENER_LINK "anon_inode:seccomp notify"
#define DELETED " (deleted)"

// The arguments of a process have at most 6 MiB.
#define TEXT_MAX (8 << 20)

// The library and the command have less writable data.
#define DATA_MAX (1 << 20)

struct supervisor {
	uid_t uids[PROC_UIDS];
	struct image command;
};

// A supervisor holds a pidfd of this process.
struct held {
	pid_t pid;
	size_t supervisor; // the index in supervisors
};

static struct supervisor *supervisors;
static size_t supervisor_count;
static struct held *held;
static size_t held_count;

static char text[TEXT_MAX]; // of a file in /proc/PID

static bool is_denied(int error)
{
	return error == EACCES || error == EPERM;
}

static bool find_magic(int memory, uint64_t start, uint64_t end, uint64_t *address)
{
	static const char magic[] = RECORD_MAGIC;
	_Alignas(struct xsaveshim_record) char data[65536];

	for (; start < end; start += sizeof(data)) {
		ssize_t got = pread(memory, data, sizeof(data), (off_t)start);

		for (ssize_t i = 0; i + (ssize_t)sizeof(magic) <= got;
		     i += _Alignof(struct xsaveshim_record)) {
			*address = start + (uint64_t)i;
			if (*address < end && !memcmp(data + i, magic, sizeof(magic)))
				return true;
		}
	}
	return false;
}

// Searches a mapping of an image for the record.
static void read_record(struct image *image, int proc_dirfd, uint64_t start, uint64_t end)
{
	int memory = openat(proc_dirfd, "mem", O_RDONLY | O_CLOEXEC);
	struct xsaveshim_record record;
	char log_path[PATH_MAX] = "";
	uint64_t address;

	if (memory < 0)
		return;
	if (end - start > DATA_MAX)
		end = start + DATA_MAX;
	if (find_magic(memory, start, end, &address) &&
	    pread(memory, &record, sizeof(record), (off_t)address) == (ssize_t)sizeof(record)) {
		if (pread(memory, log_path, sizeof(log_path), (off_t)(uintptr_t)record.log_path) <
		    0)
			log_path[0] = '\0';
		image->known = record_settings(&record, log_path, &image->settings);
		image->vcpu_seen = record.vcpu_seen;
	}
	close(memory);
}

// Finds an image by its file's name. Returns false, with errno set, if the mappings cannot be read.
// A process that has just exited has none.
static bool find_image(struct image *image, int proc_dirfd, const char *name)
{
	int fd = openat(proc_dirfd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	struct proc_mapping mapping;
	size_t room = 0;
	char *line = NULL;
	bool any = false;

	if (!maps)
		return false;
	while (!image->known && getline(&line, &room, maps) > 0) {
		any = true;
		if (!proc_maps_file(line, name, &mapping, image->path, sizeof(image->path)))
			continue;
		image->mapped = true;
		image->replaced = mapping.deleted;
		if (mapping.writable)
			read_record(image, proc_dirfd, mapping.start, mapping.end);
	}
	free(line);
	fclose(maps);
	errno = ESRCH;
	return any;
}

static void find_name(struct vmm *vmm, int proc_dirfd)
{
	ssize_t size = read_file(proc_dirfd, "cmdline", text, sizeof(text));

	if (size > 0 && guest_name_from_cmdline(text, (size_t)size, vmm->name, sizeof(vmm->name)))
		return;
	read_file(proc_dirfd, "comm", text, sizeof(text));
	snprintf(vmm->name, sizeof(vmm->name), "%.*s", (int)strcspn(text, "\n"), text);
}

struct descriptors {
	unsigned int vcpus;
	bool listener;
};

static void inspect_descriptor(const char *link, struct descriptors *descriptors)
{
	if (!strncmp(link, VCPU_LINK, strlen(VCPU_LINK)))
		descriptors->vcpus++;
	else if (!strcmp(link, LISTENER_LINK))
		descriptors->listener = true;
}

// Returns false if the caller may not inspect them. A process that has exited has none.
static bool inspect_descriptors(int proc_dirfd, struct descriptors *descriptors)
{
	int fd = openat(proc_dirfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	bool allowed = true;

	memset(descriptors, 0, sizeof(*descriptors));
	if (!directory)
		return !is_denied(errno);
	while (allowed && (entry = readdir(directory))) {
		char link[64];
		ssize_t length = readlinkat(fd, entry->d_name, link, sizeof(link) - 1);

		if (length < 0) {
			allowed = !is_denied(errno);
			continue;
		}
		link[length] = '\0';
		inspect_descriptor(link, descriptors);
	}
	closedir(directory);
	return allowed;
}

// Notes the processes whose pidfds a supervisor holds.
static void add_held(int proc_dirfd, size_t supervisor)
{
	int fd = openat(proc_dirfd, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		pid_t pid;

		read_file(fd, entry->d_name, text, sizeof(text));
		pid = proc_fdinfo_pid(text);
		if (!pid)
			continue;
		held = grow(held, held_count, sizeof(*held));
		held[held_count++] = (struct held){pid, supervisor};
	}
	if (directory)
		closedir(directory);
}

// Reads the name of the file that a process executes, without its directory, and whether the file
// has been removed.
static bool read_executable(const char *link, int proc_dirfd, char name[PATH_MAX], bool *deleted)
{
	char path[PATH_MAX];
	ssize_t length = readlinkat(proc_dirfd, link, path, sizeof(path) - 1);
	const char *slash;

	if (length < 0)
		return false;
	path[length] = '\0';
	*deleted = length > (ssize_t)strlen(DELETED) &&
		   !strcmp(path + length - strlen(DELETED), DELETED);
	if (*deleted)
		path[length - (ssize_t)strlen(DELETED)] = '\0';
	slash = strrchr(path, '/');
	strcpy(name, slash ? slash + 1 : path);
	return true;
}

// Returns true if a process runs this command: from the same file, or from a file of the same name
// that has been removed, as an upgrade does. Writes the name of the file.
static bool runs_this_command(int proc_dirfd, char name[PATH_MAX])
{
	char own_name[PATH_MAX];
	struct stat own, other;
	bool deleted;

	if (!read_executable("/proc/self/exe", AT_FDCWD, own_name, &deleted) ||
	    !read_executable("exe", proc_dirfd, name, &deleted))
		return false;
	if (deleted)
		return !strcmp(name, own_name);
	return !stat("/proc/self/exe", &own) && !fstatat(proc_dirfd, "exe", &other, 0) &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

// Takes the process, which holds a listener, for a supervisor only if it runs this command.
// Container managers hold listeners, too, and any user can start a process of any name that holds
// one.
static void add_supervisor(int proc_dirfd)
{
	struct supervisor *supervisor;
	char name[PATH_MAX];

	if (!runs_this_command(proc_dirfd, name))
		return;
	supervisors = grow(supervisors, supervisor_count, sizeof(*supervisors));
	supervisor = &supervisors[supervisor_count];
	memset(supervisor, 0, sizeof(*supervisor));
	read_file(proc_dirfd, "status", text, sizeof(text));
	if (proc_status_uids(text, supervisor->uids) &&
	    find_image(&supervisor->command, proc_dirfd, name))
		add_held(proc_dirfd, supervisor_count++);
}

// Returns false if the caller may not inspect the process.
static bool add_vmm(struct inspection *inspection, int proc_dirfd, pid_t pid, unsigned int vcpus)
{
	uid_t uids[PROC_UIDS] = {0};
	struct vmm *vmm;

	inspection->vmms = grow(inspection->vmms, inspection->vmm_count, sizeof(*inspection->vmms));
	vmm = &inspection->vmms[inspection->vmm_count];
	memset(vmm, 0, sizeof(*vmm));
	vmm->pid = pid;
	vmm->vcpus = vcpus;
	if (!find_image(&vmm->library, proc_dirfd, LIBRARY))
		return !is_denied(errno);
	read_file(proc_dirfd, "status", text, sizeof(text));
	vmm->uid = proc_status_uids(text, uids) ? uids[PROC_UID_EFFECTIVE] : (uid_t)-1;
	vmm->filtered = proc_status_is_filtered(text);
	find_name(vmm, proc_dirfd);
	inspection->vmm_count++;
	return true;
}

static bool holds_no_files(int proc_dirfd)
{
	read_file(proc_dirfd, "stat", text, sizeof(text));
	return proc_stat_holds_no_files(text);
}

static void inspect_process(struct inspection *inspection, int proc_dirfd, pid_t pid)
{
	struct descriptors descriptors;
	bool allowed = inspect_descriptors(proc_dirfd, &descriptors);

	if (allowed && descriptors.vcpus)
		allowed = add_vmm(inspection, proc_dirfd, pid, descriptors.vcpus);
	if (allowed && descriptors.listener)
		add_supervisor(proc_dirfd);
	if (!allowed && !holds_no_files(proc_dirfd))
		inspection->not_inspected++;
}

// A supervisor counts only if it is root's or the VMM's own user's, because any user can hold a
// pidfd of any process. A set-uid program has another user's real uid.
static bool serves(const struct supervisor *supervisor, const struct vmm *vmm)
{
	for (size_t i = 0; i < PROC_UIDS; i++)
		if (supervisor->uids[i] != 0 && supervisor->uids[i] != vmm->uid)
			return false;
	return vmm->filtered;
}

static void find_library(struct vmm *vmm)
{
	const struct image *library = &vmm->library;

	if (!library->mapped)
		return;
	vmm->mode = library->known && !library->vcpu_seen ? MODE_BYPASSED : MODE_LIBRARY;
	vmm->settings_known = library->known && library->vcpu_seen;
	vmm->settings = library->settings;
}

static void find_supervisor(struct vmm *vmm)
{
	for (size_t i = 0; !inspect_is_protected(vmm) && i < held_count; i++) {
		const struct supervisor *supervisor = &supervisors[held[i].supervisor];

		if (held[i].pid == vmm->pid && serves(supervisor, vmm)) {
			vmm->mode = MODE_SUPERVISOR;
			vmm->settings_known = supervisor->command.known;
			vmm->settings = supervisor->command.settings;
		}
	}
}

bool inspect_processes(struct inspection *inspection)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;

	memset(inspection, 0, sizeof(*inspection));
	if (!proc)
		return false;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		int proc_dirfd = pid > 0 ? openat(dirfd(proc), entry->d_name,
						  O_PATH | O_DIRECTORY | O_CLOEXEC)
					 : -1;

		if (proc_dirfd < 0)
			continue;
		inspect_process(inspection, proc_dirfd, pid);
		close(proc_dirfd);
	}
	closedir(proc);
	// With hidepid=2, /proc hides what the caller may not inspect: then process 1 is missing.
	if (access("/proc/1", F_OK))
		inspection->not_inspected++;
	for (size_t i = 0; i < inspection->vmm_count; i++) {
		find_library(&inspection->vmms[i]);
		find_supervisor(&inspection->vmms[i]);
	}
	free(supervisors);
	free(held);
	return true;
}

bool inspect_is_protected(const struct vmm *vmm)
{
	return vmm->settings_known && policy_trims(vmm->settings.trim, XSAVE_RESTORE);
}
