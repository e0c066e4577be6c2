// SPDX-License-Identifier: MIT
// A VMM is a process that holds a vCPU. It is served by the library if the library is mapped, and
// if the library's record says that it has seen a vCPU. It is served by a supervisor if it has a
// seccomp filter, and if a process holds the listener of a filter
// ("anon_inode:seccomp notify") and a pidfd of the VMM (the pidfd's fdinfo has its "Pid:"), runs
// this command, and has the user ids of root or of the VMM. The settings are those in the record of
// the library or of the supervisor.
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
#include "xsaveshim/record.h"

#define LIBRARY "libxsaveshim.so"
#define VCPU_LINK "anon_inode:kvm-vcpu:"
#define LISTENER_LINK "anon_inode:seccomp notify"
#define DELETED " (deleted)"

// More than the arguments of any process, for which the kernel has 6 MiB.
#define TEXT_MAX (8 << 20)

// More than the writable data of the library or of the command.
#define DATA_MAX (1 << 20)

struct supervisor {
	uid_t uids[PROC_UIDS];
	struct image command;
};

// A process that a supervisor holds a pidfd of.
struct held {
	pid_t pid;
	size_t supervisor; // its place in supervisors
};

static struct supervisor *supervisors;
static size_t supervisor_count;
static struct held *held;
static size_t held_count;

static void *grow(void *array, size_t count, size_t size)
{
	array = reallocarray(array, count + 1, size);
	if (!array)
		err(2, "cannot go on");
	return array;
}

static bool is_denied(int error)
{
	return error == EACCES || error == EPERM;
}

// Returns the text of a file in /proc/PID with a zero behind it, never NULL. A file that cannot be
// read gives an empty text.
static char *read_text(int process, const char *file, size_t *size)
{
	int fd = openat(process, file, O_RDONLY | O_CLOEXEC);
	size_t room = 4096;
	char *text = grow(NULL, room, 1);
	ssize_t got;

	*size = 0;
	while (fd >= 0 && *size < TEXT_MAX && (got = read(fd, text + *size, room - *size)) > 0) {
		*size += (size_t)got;
		if (*size == room) {
			room *= 2;
			text = grow(text, room, 1);
		}
	}
	if (fd >= 0)
		close(fd);
	text[*size] = '\0';
	return text;
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

// Looks for the record in a mapping of an image.
static void read_record(struct image *image, int process, uint64_t start, uint64_t end)
{
	int memory = openat(process, "mem", O_RDONLY | O_CLOEXEC);
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

// Looks for an image by its file's name. False, with errno set, where the mappings cannot be read:
// a process that has just exited has none.
static bool find_image(struct image *image, int process, const char *name)
{
	int fd = openat(process, "maps", O_RDONLY | O_CLOEXEC);
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
			read_record(image, process, mapping.start, mapping.end);
	}
	free(line);
	fclose(maps);
	errno = ESRCH;
	return any;
}

// Reads the name of the program that a process runs.
static void read_command(int process, char *command, size_t size)
{
	size_t length;
	char *text = read_text(process, "comm", &length);

	if (length && text[length - 1] == '\n')
		text[length - 1] = '\0';
	snprintf(command, size, "%s", text);
	free(text);
}

static void find_name(struct vmm *vmm, int process)
{
	size_t size;
	char *text = read_text(process, "cmdline", &size);

	if (!guest_name_from_cmdline(text, size, vmm->name, sizeof(vmm->name)))
		read_command(process, vmm->name, sizeof(vmm->name));
	free(text);
}

// What the descriptors of a process are.
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

// False where the caller may not inspect them. A process that has exited has none.
static bool inspect_descriptors(int process, struct descriptors *descriptors)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

static pid_t read_pidfd(int directory, const char *name)
{
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	size_t room = 0;
	char *line = NULL;
	pid_t pid = 0;

	while (file && !pid && getline(&line, &room, file) > 0)
		pid = proc_fdinfo_pid(line);
	free(line);
	if (file)
		fclose(file);
	return pid;
}

// Notes the processes that a supervisor holds a pidfd of.
static void add_held(int process, size_t supervisor)
{
	int fd = openat(process, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		pid_t pid = entry->d_name[0] == '.' ? 0 : read_pidfd(fd, entry->d_name);

		if (!pid)
			continue;
		held = grow(held, held_count, sizeof(*held));
		held[held_count++] = (struct held){pid, supervisor};
	}
	if (directory)
		closedir(directory);
}

// Reads the name of the file that a process executes, without its directory, and whether that file
// has been removed.
static bool read_executable(const char *link, int process, char name[PATH_MAX], bool *deleted)
{
	char path[PATH_MAX];
	ssize_t length = readlinkat(process, link, path, sizeof(path) - 1);
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

// Whether a process runs this command: from the same file, or from one of the same name that has
// been removed, as by an upgrade. Writes the name of its file.
static bool runs_this_command(int process, char name[PATH_MAX])
{
	char own_name[PATH_MAX];
	struct stat own, other;
	bool deleted;

	if (!read_executable("/proc/self/exe", AT_FDCWD, own_name, &deleted) ||
	    !read_executable("exe", process, name, &deleted))
		return false;
	if (deleted)
		return !strcmp(name, own_name);
	return !stat("/proc/self/exe", &own) && !fstatat(process, "exe", &other, 0) &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

// Container managers hold listeners, too, and any user can make a process of any name that holds
// one.
static void add_supervisor(int process)
{
	struct supervisor *supervisor;
	char name[PATH_MAX];
	size_t size;
	char *status;

	if (!runs_this_command(process, name))
		return;
	supervisors = grow(supervisors, supervisor_count, sizeof(*supervisors));
	supervisor = &supervisors[supervisor_count];
	memset(supervisor, 0, sizeof(*supervisor));
	status = read_text(process, "status", &size);
	if (proc_status_uids(status, supervisor->uids) &&
	    find_image(&supervisor->command, process, name))
		add_held(process, supervisor_count++);
	free(status);
}

// False where the caller may not inspect the process.
static bool add_vmm(struct inspection *inspection, int process, pid_t pid, unsigned int vcpus)
{
	uid_t uids[PROC_UIDS] = {0};
	struct vmm *vmm;
	size_t size;
	char *status;

	inspection->vmms = grow(inspection->vmms, inspection->vmm_count, sizeof(*inspection->vmms));
	vmm = &inspection->vmms[inspection->vmm_count];
	memset(vmm, 0, sizeof(*vmm));
	vmm->pid = pid;
	vmm->vcpus = vcpus;
	if (!find_image(&vmm->library, process, LIBRARY))
		return !is_denied(errno);
	status = read_text(process, "status", &size);
	vmm->uid = proc_status_uids(status, uids) ? uids[PROC_UID_EFFECTIVE] : (uid_t)-1;
	vmm->filtered = proc_status_is_filtered(status);
	free(status);
	find_name(vmm, process);
	inspection->vmm_count++;
	return true;
}

static bool holds_no_files(int process)
{
	size_t size;
	char *stat = read_text(process, "stat", &size);
	bool none = proc_stat_holds_no_files(stat);

	free(stat);
	return none;
}

static void inspect_process(struct inspection *inspection, int process, pid_t pid)
{
	struct descriptors descriptors;
	bool allowed = inspect_descriptors(process, &descriptors);

	if (allowed && descriptors.vcpus)
		allowed = add_vmm(inspection, process, pid, descriptors.vcpus);
	if (allowed && descriptors.listener)
		add_supervisor(process);
	if (!allowed && !holds_no_files(process))
		inspection->not_inspected++;
}

// Any user can hold a pidfd of any process, so a supervisor counts only if it is root's or the
// VMM's own user's. A set-uid program has another user's real uid.
static bool serves(const struct supervisor *supervisor, const struct vmm *vmm)
{
	for (size_t i = 0; i < PROC_UIDS; i++)
		if (supervisor->uids[i] != 0 && supervisor->uids[i] != vmm->uid)
			return false;
	return vmm->filtered;
}

static void find_library_shim(struct vmm *vmm)
{
	const struct image *library = &vmm->library;

	if (!library->mapped)
		return;
	vmm->shim = library->known && !library->vcpu_seen ? SHIM_BYPASSED : SHIM_PRELOAD;
	vmm->settings_known = library->known && library->vcpu_seen;
	vmm->settings = library->settings;
}

// A supervisor serves what the library does not.
static void find_supervisor(struct vmm *vmm)
{
	for (size_t i = 0; !inspect_is_protected(vmm) && i < held_count; i++) {
		const struct supervisor *supervisor = &supervisors[held[i].supervisor];

		if (held[i].pid == vmm->pid && serves(supervisor, vmm)) {
			vmm->shim = SHIM_SUPERVISED;
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
		int process = pid > 0 ? openat(dirfd(proc), entry->d_name,
					       O_PATH | O_DIRECTORY | O_CLOEXEC)
				      : -1;

		if (process < 0)
			continue;
		inspect_process(inspection, process, pid);
		close(process);
	}
	closedir(proc);
	// With hidepid=2, /proc hides what the caller may not inspect: then process 1 is missing.
	if (access("/proc/1", F_OK))
		inspection->not_inspected++;
	for (size_t i = 0; i < inspection->vmm_count; i++) {
		find_library_shim(&inspection->vmms[i]);
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
