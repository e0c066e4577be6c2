// SPDX-License-Identifier: MIT
// xsaveshim status: lists the running VMMs and whether xsaveshim protects them. Everything is read from /proc.
//
// A supervisor is a process that holds the listener of a seccomp filter ("anon_inode:seccomp notify"), and a pidfd of each process
// whose vCPUs it knows; the pidfd's fdinfo names that process ("Pid:").
#include "command.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <jansson.h>
#include <linux/openat2.h>

#include "options.h"
#include "proc_text.h"
#include "xsaveshim/settings.h"

#define VCPU_LINK "anon_inode:kvm-vcpu"
#define LISTENER_LINK "anon_inode:seccomp notify"

// More than the arguments and the environment of any process, for which the kernel has 6 MiB.
#define TEXT_MAX (8 << 20)

// The values of JSON's "verdict" and the exit status.
enum verdict { PROTECTED, UNPROTECTED, UNKNOWN };

// The values of JSON's "shim".
enum shim { SHIM_NONE, SHIM_PRELOAD, SHIM_SUPERVISED };

struct vmm {
	pid_t pid;
	uid_t uid;
	unsigned int vcpus;
	char name[256];
	enum shim shim;
	char library[PATH_MAX];	  // with SHIM_PRELOAD: as the VMM sees the file system
	bool replaced;		  // that file has been removed or replaced since
	struct settings settings; // not with SHIM_NONE
};

struct supervisor {
	uid_t uid;
	struct settings settings;
};

// A process that a supervisor serves.
struct watched {
	pid_t pid;
	size_t supervisor; // its place in supervisors
};

struct status {
	struct vmm *vmms;
	size_t vmm_count;
	struct supervisor *supervisors;
	size_t supervisor_count;
	struct watched *watched;
	size_t watched_count;
	unsigned int not_inspected; // processes that may be VMMs, but that the caller may not inspect
};

// What the descriptors of a process are.
struct descriptors {
	unsigned int vcpus;
	bool listener; // of a seccomp filter's notifications
};

static void *grow(void *array, size_t count, size_t size)
{
	array = reallocarray(array, count + 1, size);
	if (!array)
		err(UNKNOWN, "cannot go on");
	return array;
}

// Returns the text of a file in /proc/PID with a zero behind it, never NULL. A file that cannot be read gives an empty text.
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

// Reads the settings file in the process's own root directory. The process may have put anything there, so only a regular file
// is opened for reading.
static void load_settings_file(struct settings *settings, int process)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int root = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int file = root < 0 ? -1 : (int)syscall(SYS_openat2, root, SETTINGS_FILE, &how, sizeof(how));
	char path[32];
	struct stat kind;

	if (file >= 0 && !fstat(file, &kind) && S_ISREG(kind.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
		settings_load_file(settings, path);
	}
	if (file >= 0)
		close(file);
	if (root >= 0)
		close(root);
}

struct environment {
	char *text;
	size_t size;
};

static const char *environment_value(const char *key, void *context)
{
	const struct environment *environment = context;

	return proc_environ_value(environment->text, environment->size, key);
}

// Works out the settings as the library in this process does: the settings file, then the environment at the program's start.
static void load_settings(struct settings *settings, int process)
{
	struct environment environment;

	environment.text = read_text(process, "environ", &environment.size);
	settings_init(settings);
	load_settings_file(settings, process);
	settings_apply_environment(settings, environment_value, &environment);
	free(environment.text);
}

// Applies the options of a supervisor, which is a fork of `xsaveshim run` and still has its command line.
static void apply_options(struct settings *settings, int process)
{
	size_t size, argc = 0;
	char *text = read_text(process, "cmdline", &size);
	char **argv = NULL;

	for (char *argument = text; argument < text + size; argument += strlen(argument) + 1) {
		argv = grow(argv, argc + 1, sizeof(*argv));
		argv[argc++] = argument;
		argv[argc] = NULL;
	}
	if (argc > 1)
		options_apply_run(settings, (int)argc - 1, argv + 1);
	free(argv);
	free(text);
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

	if (!proc_cmdline_guest_name(text, size, vmm->name, sizeof(vmm->name)))
		read_command(process, vmm->name, sizeof(vmm->name));
	free(text);
}

// False, with errno set, where the mappings cannot be read. A process that has just exited has none.
static bool find_library(struct vmm *vmm, int process)
{
	int fd = openat(process, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	size_t room = 0;
	char *line = NULL;
	bool any = false;

	if (!maps)
		return false;
	while (vmm->shim == SHIM_NONE && getline(&line, &room, maps) > 0) {
		any = true;
		if (proc_maps_shim(line, vmm->library, sizeof(vmm->library), &vmm->replaced))
			vmm->shim = SHIM_PRELOAD;
	}
	free(line);
	fclose(maps);
	errno = ESRCH;
	return any;
}

static bool is_denied(int error)
{
	return error == EACCES || error == EPERM;
}

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

// Returns the effective user id of a process; (uid_t)-1, which is nobody's, where it cannot be read.
static uid_t read_uid(int process)
{
	size_t size;
	char *text = read_text(process, "status", &size);
	uid_t uid = proc_status_uid(text);

	free(text);
	return uid;
}

static void add_watched(struct status *status, pid_t pid, size_t supervisor)
{
	status->watched = grow(status->watched, status->watched_count, sizeof(*status->watched));
	status->watched[status->watched_count++] = (struct watched){pid, supervisor};
}

// Whether the holder of a listener is a supervisor: container managers hold listeners, too.
static bool is_ours(int process)
{
	char command[32];

	read_command(process, command, sizeof(command));
	return !strcmp(command, "xsaveshim");
}

// Adds a supervisor, and the processes that it has a pidfd of.
static void add_supervisor(struct status *status, int process)
{
	int fd = openat(process, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct supervisor *supervisor;
	const struct dirent *entry;

	if (!directory)
		return;
	status->supervisors = grow(status->supervisors, status->supervisor_count, sizeof(*status->supervisors));
	supervisor = &status->supervisors[status->supervisor_count];
	supervisor->uid = read_uid(process);
	load_settings(&supervisor->settings, process);
	apply_options(&supervisor->settings, process);
	while ((entry = readdir(directory))) {
		pid_t pid = entry->d_name[0] == '.' ? 0 : read_pidfd(fd, entry->d_name);

		if (pid)
			add_watched(status, pid, status->supervisor_count);
	}
	status->supervisor_count++;
	closedir(directory);
}

// False where the caller may not inspect the process.
static bool add_vmm(struct status *status, int process, pid_t pid, unsigned int vcpus)
{
	struct vmm *vmm;

	status->vmms = grow(status->vmms, status->vmm_count, sizeof(*status->vmms));
	vmm = &status->vmms[status->vmm_count];
	memset(vmm, 0, sizeof(*vmm));
	vmm->pid = pid;
	vmm->uid = read_uid(process);
	vmm->vcpus = vcpus;
	if (!find_library(vmm, process))
		return !is_denied(errno);
	find_name(vmm, process);
	if (vmm->shim == SHIM_PRELOAD)
		load_settings(&vmm->settings, process);
	status->vmm_count++;
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

static void inspect_process(struct status *status, int process, pid_t pid)
{
	struct descriptors descriptors;
	bool allowed = inspect_descriptors(process, &descriptors);

	if (allowed && descriptors.vcpus)
		allowed = add_vmm(status, process, pid, descriptors.vcpus);
	if (allowed && descriptors.listener && is_ours(process))
		add_supervisor(status, process);
	if (!allowed && !holds_no_files(process))
		status->not_inspected++;
}

static bool inspect_processes(struct status *status)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;

	if (!proc)
		return false;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		int process =
			pid > 0 ? openat(dirfd(proc), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

		if (process < 0)
			continue;
		inspect_process(status, process, pid);
		close(process);
	}
	closedir(proc);
	// With hidepid=2, /proc hides what the caller may not inspect: then process 1 is missing.
	if (access("/proc/1", F_OK))
		status->not_inspected++;
	return true;
}

// Any user can open a pidfd of any process and have a listener, so a supervisor counts only if it is root's or the VMM's own
// user's.
static bool serves(const struct supervisor *supervisor, const struct vmm *vmm)
{
	return supervisor->uid == 0 || supervisor->uid == vmm->uid;
}

// A VMM that has the library, too, is served by the library first: a supervisor sees what the library has already trimmed.
static void find_supervisor(const struct status *status, struct vmm *vmm)
{
	for (size_t i = 0; vmm->shim == SHIM_NONE && i < status->watched_count; i++) {
		const struct supervisor *supervisor = &status->supervisors[status->watched[i].supervisor];

		if (status->watched[i].pid == vmm->pid && serves(supervisor, vmm)) {
			vmm->shim = SHIM_SUPERVISED;
			vmm->settings = supervisor->settings;
		}
	}
}

// A VMM is protected only where what it restores is trimmed.
static bool is_protected(const struct vmm *vmm)
{
	enum trim_mode trim = vmm->settings.trim;

	return vmm->shim != SHIM_NONE && (trim == TRIM_RESTORE || trim == TRIM_BOTH);
}

static size_t count_unprotected(const struct status *status)
{
	size_t count = 0;

	for (size_t i = 0; i < status->vmm_count; i++)
		count += !is_protected(&status->vmms[i]);
	return count;
}

static enum verdict verdict(const struct status *status)
{
	if (count_unprotected(status))
		return UNPROTECTED;
	return status->not_inspected ? UNKNOWN : PROTECTED;
}

// The names of the settings in JSON, in the order of enum setting.
static const char *const setting_names[SETTINGS] = {"trim", "refused", "log", "log_level"};
static const char *const shim_names[] = {"none", "preload", "supervised"};
static const char *const verdict_names[] = {"protected", "unprotected", "unknown"};

struct clean_text {
	char text[PATH_MAX];
};

// Makes a text safe for a terminal: anything but printable ASCII becomes a question mark.
static struct clean_text clean(const char *text)
{
	struct clean_text clean;

	snprintf(clean.text, sizeof(clean.text), "%s", text);
	for (char *c = clean.text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return clean;
}

// A JSON string may hold any text that is UTF-8; any other text is cleaned.
static json_t *json_text(const char *text)
{
	json_t *json = json_string(text);

	return json ? json : json_string(clean(text).text);
}

static json_t *json_settings(const struct settings *settings)
{
	json_t *json = json_object();

	for (enum setting setting = 0; setting < SETTINGS; setting++)
		json_object_set_new(json, setting_names[setting],
				    json_text(settings_text(settings, setting)));
	return json;
}

static json_t *json_vmm(const struct vmm *vmm)
{
	bool preload = vmm->shim == SHIM_PRELOAD;

	return json_pack("{s:i, s:o, s:i, s:s, s:b, s:o, s:b, s:o}",
			 "pid", vmm->pid,
			 "name", json_text(vmm->name),
			 "vcpus", vmm->vcpus,
			 "shim", shim_names[vmm->shim],
			 "protected", is_protected(vmm),
			 "library", preload ? json_text(vmm->library) : json_null(),
			 "library_replaced", preload && vmm->replaced,
			 "settings", vmm->shim == SHIM_NONE ? json_null() : json_settings(&vmm->settings));
}

static void print_json(const struct status *status)
{
	json_t *vmms = json_array();
	json_t *json;

	for (size_t i = 0; i < status->vmm_count; i++)
		json_array_append_new(vmms, json_vmm(&status->vmms[i]));
	json = json_pack("{s:o, s:i, s:s}", "vmms", vmms, "not_inspected", status->not_inspected, "verdict",
			 verdict_names[verdict(status)]);
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(json);
}

static void print_vmm(const struct vmm *vmm, int name_width)
{
	printf("%7d  %5u  %-9s  %-19s  %-*s ", vmm->pid, vmm->vcpus, is_protected(vmm) ? "yes" : "NO",
	       vmm->shim == SHIM_PRELOAD && vmm->replaced ? "preload (replaced)" : shim_names[vmm->shim],
	       name_width, clean(vmm->name).text);
	for (enum setting setting = 0; setting < SETTINGS && vmm->shim != SHIM_NONE; setting++)
		printf(" %s=%s", setting_names[setting], clean(settings_text(&vmm->settings, setting)).text);
	putchar('\n');
}

static void print_table(const struct status *status)
{
	int name_width = (int)strlen("NAME");

	for (size_t i = 0; i < status->vmm_count; i++) {
		int width = (int)strlen(status->vmms[i].name);

		if (width > name_width)
			name_width = width;
	}
	printf("%7s  %5s  %-9s  %-19s  %-*s  %s\n", "PID", "VCPUS", "PROTECTED", "SHIM", name_width, "NAME",
	       "SETTINGS");
	for (size_t i = 0; i < status->vmm_count; i++)
		print_vmm(&status->vmms[i], name_width);
}

static bool any_replaced(const struct status *status)
{
	for (size_t i = 0; i < status->vmm_count; i++)
		if (status->vmms[i].shim == SHIM_PRELOAD && status->vmms[i].replaced)
			return true;
	return false;
}

static void print_text(const struct status *status)
{
	size_t unprotected = count_unprotected(status);

	if (status->vmm_count)
		print_table(status);
	else
		puts("no VMM found");
	if (unprotected)
		printf("%zu of %zu VMMs not protected: restart them under `xsaveshim run` or with libxsaveshim.so preloaded, "
		       "with XSAVESHIM_TRIM=restore or both\n",
		       unprotected, status->vmm_count);
	if (any_replaced(status))
		puts("(replaced): the library's file has been removed or replaced; the VMM keeps the library that it was started "
		     "with");
	if (status->not_inspected)
		printf("%u of the running processes could not be inspected: %s\n", status->not_inspected,
		       geteuid() ? "run this as root"
				 : "run this with all of root's capabilities, outside of any container");
}

static const char help[] =
	"usage: xsaveshim status [--json]\n"
	"\n"
	"Lists the running VMMs and whether xsaveshim trims what they restore.\n"
	"\n"
	"Exit status: 0 all VMMs are protected; 1 a VMM is not protected; 2 no\n"
	"unprotected VMM found, but some processes could not be inspected (run as root).\n";

int status_main(int argc, char **argv)
{
	struct status status = {0};
	enum verdict result;
	bool json;
	int ended = options_parse_json(argc, argv, help, &json);

	if (ended >= 0)
		return ended;
	if (!inspect_processes(&status)) {
		warn("cannot read /proc, which must be mounted and readable");
		return UNKNOWN;
	}
	for (size_t i = 0; i < status.vmm_count; i++)
		find_supervisor(&status, &status.vmms[i]);
	if (json)
		print_json(&status);
	else
		print_text(&status);
	result = verdict(&status);
	free(status.vmms);
	free(status.supervisors);
	free(status.watched);
	return result;
}
