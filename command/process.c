// SPDX-License-Identifier: MIT
// A process is a VMM if one of its threads holds the descriptor of a vCPU.
//
// A supervisor is a process that runs the xsaveshim command and holds the listener of a seccomp
// filter (in /proc/PID/fd, a link to "anon_inode:seccomp notify"). A supervisor holds a pidfd of
// each VMM that it serves. The pidfd's file in the supervisor's /proc/PID/fdinfo has the VMM's pid
// in the line "Pid:".
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "shared/guest_name.h"
#include "shared/helpers.h"
#include "xsaveshim/record.h"

#define LIBRARY "libxsaveshim.so"
#define VCPU_LINK "anon_inode:kvm-vcpu:"
#define LISTENER_LINK "anon_inode:seccomp notify"
#define DELETED " (deleted)"

// Room for /proc/PID/cmdline: Linux limits the arguments of a process to 6 MiB.
#define TEXT_MAX (8 << 20)

// The library and the xsaveshim command each have less writable data than DATA_MAX.
#define DATA_MAX (1 << 20)

static char text[TEXT_MAX]; // the text of a file in /proc/PID

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

// Searches the process's memory between `start` and `end` for the record of settings and event
// counts (xsaveshim/record.h) that the library or a supervisor keeps there, and reads the record.
static void read_record(struct image *image, int proc_dirfd, uint64_t start, uint64_t end)
{
	int memory = openat(proc_dirfd, "mem", O_RDONLY | O_CLOEXEC);
	struct state *state = &image->state;
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
		state->known = record_settings(&record, log_path, &state->settings);
		state->log_is_open = record_log_in_use(&record, &state->log_in_use);
		for (enum record_count count = 0; count < RECORD_COUNTS; count++)
			state->counts[count] = record.counts[count];
		image->vcpu_seen = record.vcpu_seen;
	}
	close(memory);
}

// Finds the process's mappings of a file with this name, and reads the record of settings and event
// counts (xsaveshim/record.h) in these mappings. If the list of mappings cannot be opened, sets
// errno and returns false. If the list is empty, because the process has just exited, sets errno to
// ESRCH and returns false.
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
	while (!image->state.known && getline(&line, &room, maps) > 0) {
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

static void read_command_line(struct vmm *vmm, int proc_dirfd)
{
	ssize_t size = read_file(proc_dirfd, "cmdline", text, sizeof(text));

	vmm->is_libvirts = size > 0 && guest_is_libvirts(text, (size_t)size);
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

// Inspects the descriptors of a thread. Returns false if this user may not inspect the thread. If
// the thread does not exist any more, finds no descriptors and returns true.
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

// Reads the name (without the directory) of the file that a process executes, and finds out whether
// the file has been removed.
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

// Returns true if the inspected process executes the same file as this command, or a removed file
// of the same name: an upgrade of xsaveshim removes the file that running supervisors execute. Sets
// `name` to the name of the file that the inspected process executes.
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

// Calls visitor->supervision for each process whose pidfd the supervisor holds.
static void visit_pidfds(int proc_dirfd, struct supervision *supervision,
			 const struct process_visitor *visitor)
{
	int fd = openat(proc_dirfd, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		read_file(fd, entry->d_name, text, sizeof(text));
		supervision->pid = proc_fdinfo_pid(text);
		if (supervision->pid)
			visitor->supervision(supervision);
	}
	if (directory)
		closedir(directory);
}

// Inspects a process that holds the listener of a seccomp filter. Treats the process as a
// supervisor only if the process runs the xsaveshim command, because container managers hold
// listeners, too. Does not look at the process's name (comm), because any process can set its own.
static void inspect_supervisor(pid_t pid, int proc_dirfd, const struct process_visitor *visitor)
{
	static struct supervision supervision;
	char name[PATH_MAX];

	memset(&supervision, 0, sizeof(supervision));
	supervision.supervisor = pid;
	if (!runs_this_command(proc_dirfd, name))
		return;
	read_file(proc_dirfd, "status", text, sizeof(text));
	if (proc_status_uids(text, supervision.supervisor_uids) &&
	    find_image(&supervision.command, proc_dirfd, name))
		visit_pidfds(proc_dirfd, &supervision, visitor);
}

// Reads what /proc shows about a VMM. If the VMM's mappings cannot be read, sets errno and returns
// false.
static bool read_vmm(struct vmm *vmm, int proc_dirfd)
{
	uid_t uids[PROC_UIDS] = {0};

	if (!find_image(&vmm->library, proc_dirfd, LIBRARY))
		return false;
	read_file(proc_dirfd, "status", text, sizeof(text));
	vmm->uid = proc_status_uids(text, uids) ? uids[PROC_UID_EFFECTIVE] : (uid_t)-1;
	vmm->filtered = proc_status_is_filtered(text);
	read_command_line(vmm, proc_dirfd);
	return true;
}

static bool holds_no_files(int task_dirfd)
{
	read_file(task_dirfd, "stat", text, sizeof(text));
	return proc_stat_holds_no_files(text);
}

// Inspects a thread, and adds the number of its vCPU descriptors to vmm->vcpus.
// Returns false if this user may not inspect the thread.
static bool inspect_thread(struct vmm *vmm, int task_dirfd, const struct process_visitor *visitor)
{
	struct descriptors descriptors;

	if (!inspect_descriptors(task_dirfd, &descriptors))
		return holds_no_files(task_dirfd);
	if (descriptors.vcpus && !vmm->vcpus && !read_vmm(vmm, task_dirfd))
		return !is_denied(errno);
	vmm->vcpus += descriptors.vcpus;
	if (descriptors.listener)
		inspect_supervisor(vmm->pid, task_dirfd, visitor);
	return true;
}

// Returns true if the thread tid shares its descriptor table with one of the listed threads. If the
// kernel does not have kcmp(), the function returns true, because the threads of nearly all
// processes share one table.
static bool shares_table(const pid_t *threads, size_t count, pid_t tid)
{
	for (size_t i = 0; i < count; i++) {
		long result = syscall(SYS_kcmp, threads[i], tid, KCMP_FILES, 0, 0);

		if (!result || (result < 0 && errno == ENOSYS))
			return true;
	}
	return false;
}

// For each descriptor table other than the main thread's, inspects one thread that uses the table.
// If the main thread has ended, it has no table, so the loop inspects one thread for each table of
// the process.
static bool inspect_threads(struct vmm *vmm, int proc_dirfd, const struct process_visitor *visitor)
{
	int fd = openat(proc_dirfd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	pid_t *threads = grow(NULL, 0, sizeof(*threads));
	const struct dirent *entry;
	size_t count = 1;
	bool allowed = true;

	threads[0] = vmm->pid;
	while (directory && (entry = readdir(directory))) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
		int task_dirfd;

		if (tid <= 0 || tid == vmm->pid || shares_table(threads, count, tid))
			continue;
		threads = grow(threads, count, sizeof(*threads));
		threads[count++] = tid;
		task_dirfd = openat(fd, entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (task_dirfd < 0)
			continue;
		allowed &= inspect_thread(vmm, task_dirfd, visitor);
		close(task_dirfd);
	}
	if (directory)
		closedir(directory);
	free(threads);
	return allowed;
}

// Returns true if the process has more than one thread. The directory /proc/PID/task has two hard
// links, and one more hard link for each thread.
static bool has_threads(int proc_dirfd)
{
	struct stat task;

	return !fstatat(proc_dirfd, "task", &task, 0) && task.st_nlink > 3;
}

bool process_inspect(pid_t pid, const struct process_visitor *visitor)
{
	static struct vmm vmm;
	char path[32];
	int proc_dirfd;
	bool allowed;

	memset(&vmm, 0, sizeof(vmm));
	vmm.pid = pid;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	proc_dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_dirfd < 0)
		return true;
	allowed = inspect_thread(&vmm, proc_dirfd, visitor);
	if (allowed && has_threads(proc_dirfd))
		allowed = inspect_threads(&vmm, proc_dirfd, visitor);
	close(proc_dirfd);
	if (vmm.vcpus)
		visitor->vmm(&vmm);
	return allowed;
}
