// SPDX-License-Identifier: MIT
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "obstacles.h"
#include "programs.skel.h"
#include "xsaveshim/xstate.h"

#define NEW_PINS PINS "-new"
#define OLD_PINS PINS "-old"

#define ENTRY_PROGRAM "xsaveshim_entry"

#define COUNTS_SIZE (HOST_COUNTS * sizeof(uint64_t))

// Of a kernel that preempts, an exit may be missed now and then: one that is seen is proof enough.
#define TRIES 20
#define GONE_TRIES 100
#define DETACHED_TRIES 600
#define PAUSE_NS 50000000

static const char *const pin_names[] = {"entry", "exit", "gone"};

#define PIN_COUNT (sizeof(pin_names) / sizeof(pin_names[0]))

static int lock_fd = -1;

// libbpf's first complaint, for what nothing else explains.
static char complaint[200];

__attribute__((format(printf, 2, 0))) static int
keep_complaint(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !complaint[0]) {
		vsnprintf(complaint, sizeof(complaint), format, arguments);
		complaint[strcspn(complaint, "\n")] = '\0';
	}
	return 0;
}

static void pause_a_little(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

bool door_lock(void)
{
	lock_fd = open(BPFFS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return lock_fd >= 0 && !flock(lock_fd, LOCK_EX);
}

void door_unlock(void)
{
	close(lock_fd);
}

// ---- pins ----

static const char *pin_path(const char *directory, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static bool is_complete(const char *directory)
{
	for (size_t i = 0; i < PIN_COUNT; i++)
		if (access(pin_path(directory, pin_names[i]), F_OK))
			return false;
	return true;
}

// The entry first: what comes after it finds the exit still there.
static void remove_pins(const char *directory)
{
	for (size_t i = 0; i < PIN_COUNT; i++)
		unlink(pin_path(directory, pin_names[i]));
	rmdir(directory);
}

static void put_in_place(void)
{
	rename(PINS, OLD_PINS);
	rename(NEW_PINS, PINS);
	remove_pins(OLD_PINS);
}

void door_clean_up(void)
{
	remove_pins(OLD_PINS);
	if (is_complete(NEW_PINS))
		put_in_place();
	remove_pins(NEW_PINS);
	if (!is_complete(PINS))
		remove_pins(PINS);
}

void door_unpin(void)
{
	remove_pins(PINS);
}

// ---- what is attached ----

static uint32_t pinned_program(void)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_obj_get(PINS "/entry");
	bool known = fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size);

	if (fd >= 0)
		close(fd);
	return known ? info.prog_id : 0;
}

// The id of an attached program of that name, the first after the given link; 0: there is none.
static uint32_t attached_program(const char *name)
{
	uint32_t link = 0, found = 0;

	while (!found && !bpf_link_get_next_id(link, &link)) {
		struct bpf_link_info link_info = {0};
		struct bpf_prog_info info = {0};
		uint32_t link_size = sizeof(link_info), size = sizeof(info);
		int link_fd = bpf_link_get_fd_by_id(link);
		int fd = -1;

		if (link_fd >= 0 && !bpf_obj_get_info_by_fd(link_fd, &link_info, &link_size))
			fd = bpf_prog_get_fd_by_id(link_info.prog_id);
		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size) && !strcmp(info.name, name))
			found = info.id;
		if (link_fd >= 0)
			close(link_fd);
		if (fd >= 0)
			close(fd);
	}
	return found;
}

// A map's memory; NULL: it cannot be mapped.
static void *map_memory(int fd, size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void take_map(struct door *door, uint32_t id)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);
	struct host_settings *settings = NULL;

	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.name[0] = '\0';
	if (!strcmp(info.name, "events")) {
		door->events_map = fd;
		return;
	}
	if (!strcmp(info.name, "counts") && info.max_entries == HOST_COUNTS)
		door->counts = map_memory(fd, COUNTS_SIZE, PROT_READ);
	if (!strcmp(info.name, "settings") && info.value_size == sizeof(*settings))
		settings = map_memory(fd, sizeof(*settings), PROT_READ);
	if (settings) {
		door->settings = *settings;
		munmap(settings, sizeof(*settings));
	}
	close(fd);
}

static void take_maps(struct door *door)
{
	uint32_t ids[16];
	struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(door->program);

	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size))
		for (uint32_t i = 0; i < info.nr_map_ids; i++)
			take_map(door, ids[i]);
	if (fd >= 0)
		close(fd);
}

bool door_find(struct door *door)
{
	*door = (struct door){.events_map = -1};
	door->program = pinned_program();
	door->pinned = door->program;
	if (!door->program)
		door->program = attached_program(ENTRY_PROGRAM);
	if (door->program)
		take_maps(door);
	return door->program;
}

void door_close(struct door *door)
{
	if (door->events_map >= 0)
		close(door->events_map);
	if (door->counts)
		munmap((void *)(uintptr_t)door->counts, COUNTS_SIZE);
}

bool door_wait_gone(struct door *left)
{
	for (int i = 0; i < GONE_TRIES && door_find(left); i++) {
		door_close(left);
		pause_a_little();
	}
	return !left->program;
}

bool door_counts(const struct door *door, uint64_t counts[HOST_COUNTS])
{
	if (!door->counts)
		return false;
	// Exits before entries, so that no call seems to have an exit alone.
	for (uint32_t i = HOST_COUNTS; i-- > 0;)
		counts[i] = __atomic_load_n(&door->counts[i], __ATOMIC_ACQUIRE);
	return true;
}

// ---- the proof ----

__attribute__((format(printf, 3, 4))) static void
conclude(struct verdict *verdict, enum force force, const char *format, ...)
{
	va_list arguments;

	verdict->force = force;
	va_start(arguments, format);
	vsnprintf(verdict->reason, sizeof(verdict->reason), format, arguments);
	va_end(arguments);
}

static const char *lacked(const struct selftest *selftest)
{
	return xfeature_name((unsigned int)__builtin_ctzll(selftest->xfeature));
}

static const char *cause(void)
{
	const char *obstacle = obstacle_to_calling();

	return obstacle ? obstacle : "KVM has been loaded anew, say: enable it again";
}

static void judge_without(struct verdict *verdict)
{
	if (verdict->selftest.cleared)
		conclude(verdict, CANNOT_TELL,
			 "%s was cleared from what a VM loaded, but not by programs that this can see",
			 lacked(&verdict->selftest));
	else
		conclude(verdict, NOT_IN_FORCE, "it is not enabled");
}

static void judge_once(struct verdict *verdict, const struct door *door)
{
	uint64_t before[HOST_COUNTS] = {0}, after[HOST_COUNTS] = {0};
	enum trim_mode mode = door->settings.trim;
	const struct selftest *selftest = &verdict->selftest;
	bool counted = door_counts(door, before);

	if (!selftest_run(&verdict->selftest)) {
		conclude(verdict, CANNOT_TELL, "KVM could not be asked: %s", selftest->problem);
	} else if (!door->program) {
		judge_without(verdict);
	} else if (!counted || !door_counts(door, after)) {
		conclude(verdict, CANNOT_TELL, "the programs are another version's: enable it with this one");
	} else if (after[HOST_COUNT_ASKED_ENTRIES] - before[HOST_COUNT_ASKED_ENTRIES] < SELFTEST_CALLS) {
		conclude(verdict, NOT_IN_FORCE, "the programs are attached, but the kernel does not call them: %s",
			 cause());
	} else if (after[HOST_COUNT_ASKED_EXITS] - before[HOST_COUNT_ASKED_EXITS] < SELFTEST_CALLS) {
		conclude(verdict, NOT_IN_FORCE, "the kernel calls no program at the calls' exits: %s", cause());
	} else if (policy_mode_trims(mode, XSAVE_RESTORE) && !selftest->cleared) {
		conclude(verdict, NOT_IN_FORCE, "%s stayed in what a VM loaded whose guest has none", lacked(selftest));
	} else if (policy_mode_trims(mode, XSAVE_SAVE) && selftest->returned) {
		conclude(verdict, NOT_IN_FORCE, "a VM saved what its guest does not have");
	} else if (policy_mode_trims(mode, XSAVE_RESTORE)) {
		conclude(verdict, IN_FORCE, "%s was cleared from what a VM loaded whose guest has none",
			 lacked(selftest));
	} else {
		conclude(verdict, IN_FORCE, "the programs saw what a VM loaded and saved");
	}
}

struct verdict door_judge(const struct door *door)
{
	struct verdict verdict = {0};

	for (int i = 0; i < TRIES; i++) {
		if (i)
			pause_a_little();
		judge_once(&verdict, door);
		if (verdict.force == IN_FORCE || !door->program)
			break;
	}
	return verdict;
}

// The kernel strikes a program off its list, and only then detaches it, which waits for every CPU.
struct verdict door_wait_detached(const struct door *none)
{
	struct verdict verdict = door_judge(none);

	for (int i = 1; i < DETACHED_TRIES && verdict.selftest.cleared; i++) {
		pause_a_little();
		verdict = door_judge(none);
	}
	return verdict;
}

// ---- enabling ----

// KVM that is built in is described with the kernel; as a module, it needs a description of its own.
static enum host_exit possible_exit(void)
{
	bool is_module = !access("/sys/module/kvm/initstate", F_OK);

	return is_module && access("/sys/kernel/btf/kvm", F_OK) ? HOST_EXIT_KRETPROBE : HOST_EXIT_FEXIT;
}

static int write_settings(int fd, struct host_settings settings)
{
	struct host_settings *memory = map_memory(fd, sizeof(settings), PROT_READ | PROT_WRITE);

	if (!memory)
		return -errno;
	*memory = settings;
	munmap(memory, sizeof(*memory));
	return 0;
}

static int load_and_attach(struct programs *programs, struct host_settings settings)
{
	bool kretprobe = settings.exit == HOST_EXIT_KRETPROBE;
	int error;

	programs->rodata->keeps_calls = kretprobe;
	bpf_program__set_autoload(programs->progs.xsaveshim_exit, !kretprobe);
	bpf_program__set_autoload(programs->progs.xsaveshim_ret, kretprobe);
	error = programs__load(programs);
	if (!error)
		error = write_settings(bpf_map__fd(programs->maps.settings), settings);
	return error ? error : programs__attach(programs);
}

static int pin_all(struct programs *programs)
{
	struct bpf_link *exit =
		programs->links.xsaveshim_exit ? programs->links.xsaveshim_exit : programs->links.xsaveshim_ret;
	struct bpf_link *const links[PIN_COUNT] = {
		programs->links.xsaveshim_entry, exit, programs->links.xsaveshim_gone};
	int error = mkdir(NEW_PINS, S_IRWXU) ? -errno : 0;

	for (size_t i = 0; i < PIN_COUNT && !error; i++)
		error = bpf_link__pin(links[i], pin_path(NEW_PINS, pin_names[i]));
	return error;
}

static bool refuse(const char *reason, int error)
{
	fprintf(stderr, "xsaveshim host: cannot be enabled: %s%s%s\n", reason, error ? ": " : "",
		error ? strerror(-error) : "");
	return false;
}

static bool prove_and_pin(struct programs *programs, struct host_settings settings)
{
	struct door door = {
		.program = 1,
		.events_map = -1,
		.counts = map_memory(bpf_map__fd(programs->maps.counts), COUNTS_SIZE, PROT_READ),
		.settings = settings,
	};
	struct verdict verdict = door_judge(&door);
	sigset_t all, before;
	int error;

	door_close(&door);
	if (verdict.force != IN_FORCE)
		return refuse(verdict.reason, 0);
	// A signal ends this before, when nothing is pinned, or afterwards.
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	error = pin_all(programs);
	if (error)
		remove_pins(NEW_PINS);
	else
		put_in_place();
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error ? refuse(NEW_PINS, error) : true;
}

bool door_enable(struct host_settings settings)
{
	struct programs *programs;
	bool enabled;
	int error;

	libbpf_set_print(keep_complaint);
	settings.exit = possible_exit();
	programs = programs__open();
	if (!programs)
		return refuse("libbpf", -errno);
	error = load_and_attach(programs, settings);
	enabled = error ? refuse(complaint[0] ? complaint : "the kernel does not take the programs", error)
			: prove_and_pin(programs, settings);
	programs__destroy(programs);
	return enabled;
}
