// SPDX-License-Identifier: MIT
// `xsaveshim status` forks a worker process, which inspects all processes one by one and sends its
// findings back. If the worker sleeps and sends nothing for a second, `xsaveshim status` assumes
// that reading a file in the inspected process's /proc directory blocks the worker. Then `xsaveshim
// status` skips the inspected process, and starts a new worker for the remaining processes.
//
// The library serves a VMM that has mapped the library, with one exception: if the library's record
// (xsaveshim/record.h) in the VMM's memory can be read and says that the library has seen no vCPU,
// the library does not serve the VMM. A supervisor serves a VMM if the VMM has a seccomp filter,
// the supervisor holds a pidfd of the VMM, and the supervisor runs as root or as the VMM's user.
#include "inspect.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/helpers.h"

#define PATIENCE_MS 1000
#define PATIENCE_FOR_ALL_MS 30000

enum finding { FOUND_VMM, FOUND_SUPERVISION, PROCESS_DONE, PROCESS_NOT_PERMITTED };

struct message {
	enum finding finding;
	union {
		struct vmm vmm;
		struct supervision supervision;
	};
};

static int channel; // a socket between the command and its worker process
static struct message message;

static struct supervision *supervisions;
static size_t supervision_count;

static void send_message(enum finding finding)
{
	bool is_long = finding == FOUND_VMM || finding == FOUND_SUPERVISION;

	message.finding = finding;
	if (send(channel, &message, is_long ? sizeof(message) : sizeof(finding), MSG_NOSIGNAL) < 0)
		_exit(1);
}

static void send_vmm(const struct vmm *vmm)
{
	message.vmm = *vmm;
	send_message(FOUND_VMM);
}

static void send_supervision(const struct supervision *supervision)
{
	message.supervision = *supervision;
	send_message(FOUND_SUPERVISION);
}

// Replaces the worker's standard streams by /dev/null. If a blocked worker still had a pipe as its
// stdout, the pipe's reader would wait for the end of file even after `xsaveshim status` had ended.
static void close_inherited(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= STDERR_FILENO && null >= 0; fd++)
		dup2(null, fd);
}

static _Noreturn void work(const pid_t *pids, size_t count)
{
	static const struct process_visitor visitor = {send_vmm, send_supervision};

	close_inherited();
	for (size_t i = 0; i < count; i++)
		send_message(
			process_inspect(pids[i], &visitor) ? PROCESS_DONE : PROCESS_NOT_PERMITTED);
	_exit(0);
}

static pid_t start_worker(const pid_t *pids, size_t count)
{
	int ends[2];
	pid_t worker;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		err(2, "socketpair");
	worker = fork();
	if (worker < 0)
		err(2, "fork");
	channel = ends[worker ? 0 : 1];
	close(ends[worker ? 1 : 0]);
	if (!worker)
		work(pids, count);
	return worker;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Returns true if the worker is in the state R (running or ready to run). In this state, the worker
// is not blocked, but slow because the host is busy.
static bool is_running(pid_t worker)
{
	char path[32], stat[512];
	const char *rest;

	snprintf(path, sizeof(path), "/proc/%d/stat", worker);
	read_file(AT_FDCWD, path, stat, sizeof(stat));
	rest = strrchr(stat, ')');
	return rest && !strncmp(rest, ") R", 3);
}

// Receives the worker's next message. Returns false if the worker is blocked or has ended, or if
// the time `end` has come.
static bool receive_message(pid_t worker, long end)
{
	struct pollfd ready = {.fd = channel, .events = POLLIN};
	int result = 0;

	for (long left; !result && (left = end - now_ms()) > 0;) {
		result = poll(&ready, 1, (int)(left < PATIENCE_MS ? left : PATIENCE_MS));
		if (!result && !is_running(worker))
			break;
	}
	return result > 0 && recv(channel, &message, sizeof(message), 0) > 0;
}

static void add_not_inspected(struct inspection *inspection, pid_t pid, enum obstruction why)
{
	size_t count = inspection->not_inspected_count++;

	inspection->not_inspected =
		grow(inspection->not_inspected, count, sizeof(*inspection->not_inspected));
	inspection->not_inspected[count] = (struct not_inspected){pid, why};
}

static void add_vmm(struct inspection *inspection)
{
	size_t count = inspection->vmm_count++;

	inspection->vmms = grow(inspection->vmms, count, sizeof(*inspection->vmms));
	inspection->vmms[count] = message.vmm;
}

static void add_supervision(void)
{
	supervisions = grow(supervisions, supervision_count, sizeof(*supervisions));
	supervisions[supervision_count++] = message.supervision;
}

// Starts a worker, and receives its findings until the worker ends or is blocked, or until the time
// `end`. Returns how many processes the worker has inspected.
static size_t inspect_some(struct inspection *inspection, const pid_t *pids, size_t count, long end)
{
	pid_t worker = start_worker(pids, count);
	size_t done = 0;

	while (done < count && receive_message(worker, end)) {
		switch (message.finding) {
		case FOUND_VMM:
			add_vmm(inspection);
			break;
		case FOUND_SUPERVISION:
			add_supervision();
			break;
		case PROCESS_NOT_PERMITTED:
			add_not_inspected(inspection, pids[done], NOT_PERMITTED);
			done++;
			break;
		case PROCESS_DONE:
			done++;
			break;
		}
	}
	// Do not wait for the worker's end: if the worker is blocked in the kernel, even SIGKILL
	// may not end it.
	kill(worker, SIGKILL);
	close(channel);
	return done;
}

static pid_t *list_processes(size_t *count)
{
	DIR *proc = opendir("/proc");
	const struct dirent *entry;
	pid_t *pids = grow(NULL, 0, sizeof(*pids));

	*count = 0;
	if (!proc)
		return NULL;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0)
			continue;
		pids = grow(pids, *count, sizeof(*pids));
		pids[(*count)++] = pid;
	}
	closedir(proc);
	return pids;
}

// Returns true if the supervisor serves the VMM. It is not enough that the supervisor holds a pidfd
// of the VMM, because any user can open a pidfd of any process. Each of the supervisor's four user
// ids (real, effective, saved, file-system) must be that of root or of the VMM's user. The
// effective user id alone proves nothing, because any user can start a set-uid program of root.
static bool serves(const struct supervision *supervision, const struct vmm *vmm)
{
	const uid_t *uids = supervision->supervisor_uids;

	for (size_t i = 0; i < PROC_UIDS; i++)
		if (uids[i] != 0 && uids[i] != vmm->uid)
			return false;
	return vmm->filtered && supervision->pid == vmm->pid;
}

static void find_library(struct vmm *vmm)
{
	const struct image *library = &vmm->library;

	if (!library->mapped)
		return;
	vmm->mode = library->state.known && !library->vcpu_seen ? MODE_BYPASSED : MODE_LIBRARY;
	vmm->state = library->state;
	vmm->state.known &= library->vcpu_seen;
}

static void find_supervisor(struct vmm *vmm)
{
	for (size_t i = 0; !inspect_is_protected(vmm) && i < supervision_count; i++) {
		if (!serves(&supervisions[i], vmm))
			continue;
		vmm->mode = MODE_SUPERVISOR;
		vmm->supervisor = supervisions[i].supervisor;
		vmm->state = supervisions[i].command.state;
	}
}

bool inspect_processes(struct inspection *inspection)
{
	long end = now_ms() + PATIENCE_FOR_ALL_MS;
	size_t count, next = 0;
	pid_t *pids = list_processes(&count);

	memset(inspection, 0, sizeof(*inspection));
	if (!pids)
		return false;
	while (next < count) {
		if (now_ms() < end)
			next += inspect_some(inspection, pids + next, count - next, end);
		if (next < count)
			add_not_inspected(inspection, pids[next++],
					  now_ms() < end ? NO_ANSWER : NO_TIME);
	}
	// If /proc has no process 1, /proc is mounted with hidepid=2, and hides every process that
	// this user may not inspect.
	if (access("/proc/1", F_OK))
		add_not_inspected(inspection, 1, NOT_PERMITTED);
	for (size_t i = 0; i < inspection->vmm_count; i++) {
		find_library(&inspection->vmms[i]);
		find_supervisor(&inspection->vmms[i]);
	}
	free(supervisions);
	free(pids);
	return true;
}

bool inspect_is_protected(const struct vmm *vmm)
{
	return vmm->state.known && policy_trims(vmm->state.settings.trim, XSAVE_RESTORE);
}
