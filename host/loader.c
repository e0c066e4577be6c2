// SPDX-License-Identifier: MIT
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kretprobe.h"
#include "pins.h"
#include "programs.skel.h"
#include "requirements.h"
#include "retire.h"
#include "shared/helpers.h"
#include "xsaveshim/xstate.h"

#define NAME_PREFIX "xsaveshim_"
#define ENTRY_PROGRAM NAME_PREFIX "entry"

// The maps vcpu_states, marks and events grow with the number of CPUs, because a host with more
// CPUs runs more vCPUs.
#define VCPUS_PER_CPU 512
#define MOST_VCPUS 262144
#define RING_PER_CPU 16384

#define COUNTS_SIZE (HOST_COUNTS * sizeof(uint64_t))

// A kernel that preempts its own code sometimes skips a BPF program. So loader_check() repeats the
// self-test until a self-test succeeds, but at most CHECK_TRIES times.
#define CHECK_TRIES 20
#define GONE_TRIES 100
#define DETACHED_TRIES 600
#define PAUSE_NS 50000000
#define PAUSES_PER_SECOND (1000000000 / PAUSE_NS)

#define LOCK "/run/xsaveshim-host.lock"

static int lock_fd = -1;

// libbpf's first warning, which gives the reason if libbpf fails.
static char warning[200];

__attribute__((format(printf, 2, 0))) static int
keep_warning(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !warning[0]) {
		vsnprintf(warning, sizeof(warning), format, arguments);
		warning[strcspn(warning, "\n")] = '\0';
	}
	return 0;
}

// `error` is a negative errno, as libbpf returns it.
static const char *failure(const char *what, int error)
{
	static char reason[320];

	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(-error));
	return reason;
}

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

static uint64_t nanoseconds_since_boot(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static const char *locked_by(pid_t pid)
{
	static char reason[160];

	// If the process that holds the lock is not visible in this pid namespace, F_GETLK gives
	// the pid 0.
	snprintf(reason, sizeof(reason),
		 pid > 0 ? "process %d holds " LOCK ": wait until that process ends, or end it"
			 : "a process of another pid namespace (pid %d in this one) holds " LOCK
			   ": wait until that process ends",
		 pid);
	return reason;
}

// Locks with fcntl(), because flock() cannot tell which process holds the lock.
const char *loader_lock(unsigned int seconds)
{
	const char *reason = pins_problem();
	struct flock lock;

	if (reason)
		return reason;
	lock_fd = open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
	if (lock_fd < 0)
		return failure(LOCK, -errno);
	for (unsigned int i = 0; i <= seconds * PAUSES_PER_SECOND; i++) {
		lock = (struct flock){.l_type = F_WRLCK};
		if (!fcntl(lock_fd, F_SETLK, &lock))
			return NULL;
		pause_briefly();
	}
	if (fcntl(lock_fd, F_GETLK, &lock))
		reason = failure(LOCK, -errno);
	else if (lock.l_type == F_UNLCK)
		reason = "another process held " LOCK " until now: run the command again";
	else
		reason = locked_by(lock.l_pid);
	loader_unlock();
	return reason;
}

void loader_unlock(void)
{
	close(lock_fd);
}

// ---- attached programs ----

static uint32_t pinned_program(void)
{
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);
	int fd = pins_are_complete(PINS) ? bpf_obj_get(PINS "/entry") : -1;
	bool known = fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size);

	if (fd >= 0)
		close(fd);
	return known ? info.prog_id : 0;
}

static struct bpf_prog_info program_of_link(uint32_t link)
{
	struct bpf_link_info link_info = {0};
	struct bpf_prog_info info = {0};
	uint32_t link_size = sizeof(link_info), size = sizeof(info);
	int link_fd = bpf_link_get_fd_by_id(link);
	int fd = -1;

	if (link_fd >= 0 && !bpf_obj_get_info_by_fd(link_fd, &link_info, &link_size))
		fd = bpf_prog_get_fd_by_id(link_info.prog_id);
	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		info.id = 0;
	if (link_fd >= 0)
		close(link_fd);
	if (fd >= 0)
		close(fd);
	return info;
}

// Returns the id of the first attached BPF program with this name, or 0 if there is none.
static uint32_t attached_program(const char *name)
{
	uint32_t link = 0;

	while (!bpf_link_get_next_id(link, &link)) {
		struct bpf_prog_info info = program_of_link(link);

		if (info.id && !strcmp(info.name, name))
			return info.id;
	}
	return 0;
}

static bool is_ours(const struct bpf_prog_info *info)
{
	return info->id && !strncmp(info->name, NAME_PREFIX, strlen(NAME_PREFIX));
}

unsigned int loader_links(void)
{
	unsigned int links = 0;
	uint32_t link = 0;

	while (!bpf_link_get_next_id(link, &link)) {
		struct bpf_prog_info info = program_of_link(link);

		links += is_ours(&info);
	}
	return links;
}

uint64_t loader_skipped(void)
{
	uint64_t skipped = kretprobe_misses();
	uint32_t link = 0;

	while (!bpf_link_get_next_id(link, &link)) {
		struct bpf_prog_info info = program_of_link(link);

		if (is_ours(&info))
			skipped += info.recursion_misses;
	}
	return skipped;
}

static void *map_memory(int fd, size_t size, int protection)
{
	void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void read_map(struct attachment *attachment, uint32_t id)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id);
	size_t known = offsetof(struct host_settings, caps);
	void *settings = NULL;

	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		info.name[0] = '\0';
	if (!strcmp(info.name, "events")) {
		attachment->events_map = fd;
		return;
	}
	if (!strcmp(info.name, "counts") && info.max_entries == HOST_COUNTS)
		attachment->counts = map_memory(fd, COUNTS_SIZE, PROT_READ);
	if (!strcmp(info.name, "settings") && info.value_size >= known)
		settings = map_memory(fd, info.value_size, PROT_READ);
	if (settings) {
		if (info.value_size == sizeof(attachment->settings))
			known = sizeof(attachment->settings);
		memcpy(&attachment->settings, settings, known);
		attachment->has_settings = true;
		munmap(settings, info.value_size);
	}
	close(fd);
}

static void read_maps(struct attachment *attachment)
{
	uint32_t ids[16];
	struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(attachment->program);

	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size))
		for (uint32_t i = 0; i < info.nr_map_ids; i++)
			read_map(attachment, ids[i]);
	if (fd >= 0)
		close(fd);
}

bool loader_find(struct attachment *attachment)
{
	*attachment = (struct attachment){.events_map = -1};
	attachment->program = pinned_program();
	attachment->pinned = attachment->program;
	if (!attachment->program)
		attachment->program = attached_program(ENTRY_PROGRAM);
	if (attachment->program)
		read_maps(attachment);
	return attachment->program;
}

void loader_close(struct attachment *attachment)
{
	if (attachment->events_map >= 0)
		close(attachment->events_map);
	if (attachment->counts)
		munmap((void *)(uintptr_t)attachment->counts, COUNTS_SIZE);
}

bool loader_counts(const struct attachment *attachment, uint64_t counts[HOST_COUNTS])
{
	if (!attachment->counts)
		return false;
	// Reads the counts of exits before the counts of entries: under_way() in main.c subtracts
	// the exits from the entries, and its result must never be negative.
	for (uint32_t i = HOST_COUNTS; i-- > 0;)
		counts[i] = __atomic_load_n(&attachment->counts[i], __ATOMIC_ACQUIRE);
	return true;
}

// ---- the check ----

__attribute__((format(printf, 3, 4))) static void
conclude(struct host_check *check, enum host_state state, const char *format, ...)
{
	va_list arguments;

	check->state = state;
	va_start(arguments, format);
	vsnprintf(check->reason, sizeof(check->reason), format, arguments);
	va_end(arguments);
}

static const char *tested_xfeature(const struct selftest *selftest)
{
	return xfeature_name((unsigned int)__builtin_ctzll(selftest->xfeature));
}

static const char *why_not_called(void)
{
	const char *requirement = missing_tracing();

	return requirement ? requirement : "perhaps KVM was reloaded: enable the host mode again";
}

static void check_once(struct host_check *check, const struct attachment *attachment)
{
	uint64_t before[HOST_COUNTS] = {0}, after[HOST_COUNTS] = {0};
	enum trim trim = attachment->settings.trim;
	const struct selftest *selftest = &check->selftest;
	bool counted = loader_counts(attachment, before);
	uint64_t misses = kretprobe_misses();

	if (!selftest_run(&check->selftest))
		conclude(check, HOST_UNKNOWN, "the test with a VM failed: %s", selftest->problem);
	else if (!attachment->program && selftest->cleared)
		conclude(
			check, HOST_UNKNOWN,
			"%s disappeared from the payload of a test VM, but xsaveshim finds no attached BPF program of its own",
			tested_xfeature(selftest));
	else if (!attachment->program)
		conclude(check, HOST_INACTIVE, "the host mode is not enabled");
	else if (!counted || !loader_counts(attachment, after))
		conclude(
			check, HOST_UNKNOWN,
			"another version of xsaveshim loaded the programs: run `xsaveshim host enable` to replace them");
	else if (after[HOST_COUNT_PROBE_ENTRIES] - before[HOST_COUNT_PROBE_ENTRIES] <
		 SELFTEST_CALLS)
		conclude(check, HOST_INACTIVE,
			 "the programs are attached, but the kernel does not call them: %s",
			 why_not_called());
	else if (after[HOST_COUNT_PROBE_EXITS] - before[HOST_COUNT_PROBE_EXITS] < SELFTEST_CALLS)
		conclude(
			check, HOST_INACTIVE,
			"the kernel calls the programs at entries of ioctls, but not at exits: %s",
			kretprobe_misses() > misses
				? "no instance of xsaveshim's kretprobe is free, because too many threads hang in ioctls of vCPUs"
				: why_not_called());
	else if (policy_trims(trim, XSAVE_RESTORE) && !selftest->cleared)
		conclude(check, HOST_INACTIVE,
			 "the programs left %s, which the test guest lacks, in a payload",
			 tested_xfeature(selftest));
	else if (policy_trims(trim, XSAVE_SAVE) && selftest->returned)
		conclude(check, HOST_INACTIVE,
			 "the programs left an xfeature, which the test guest lacks, in a payload");
	else if (policy_trims(trim, XSAVE_RESTORE))
		conclude(check, HOST_ACTIVE,
			 "the programs cleared %s, which the test guest lacks, from a payload",
			 tested_xfeature(selftest));
	else
		conclude(check, HOST_ACTIVE, "the programs counted the ioctls of a test VM");
}

struct host_check loader_check(const struct attachment *attachment)
{
	struct host_check check = {0};

	for (int i = 0; i < CHECK_TRIES; i++) {
		if (i)
			pause_briefly();
		check_once(&check, attachment);
		if (check.state == HOST_ACTIVE || !attachment->program)
			break;
	}
	return check;
}

// ---- disabling ----

static bool wait_until_gone(void)
{
	struct attachment left;

	for (int i = 0; i < GONE_TRIES && loader_find(&left); i++) {
		loader_close(&left);
		pause_briefly();
	}
	kretprobe_remove_unused();
	return !attached_program(ENTRY_PROGRAM);
}

// Waits until a self-test shows that the BPF programs are detached. The kernel's list of links
// cannot show this, because the kernel removes a link from the list before it detaches the link's
// program.
static struct host_check wait_until_detached(void)
{
	const struct attachment none = {.events_map = -1};
	struct host_check check = loader_check(&none);

	for (int i = 1; i < DETACHED_TRIES && check.selftest.cleared; i++) {
		pause_briefly();
		check = loader_check(&none);
	}
	return check;
}

const char *loader_disable(const struct attachment *attachment)
{
	static struct host_check check;

	if (!attachment->pinned)
		return "the programs are pinned in another bpffs instance, perhaps in a container: run `xsaveshim host disable` where the host mode was enabled";
	retire(PINS);
	if (!wait_until_gone())
		return "the pins are removed, but the programs are still attached: another process or another bpffs instance holds them";
	check = wait_until_detached();
	return check.selftest.cleared ? check.reason : NULL;
}

// ---- enabling ----

// Programs of the types fentry and fexit need BTF that describes KVM. If KVM is built into the
// kernel, the kernel's BTF describes KVM. If KVM is a module, the module needs BTF of its own.
static bool has_btf_of_kvm(void)
{
	return access("/sys/module/kvm/initstate", F_OK) || !access("/sys/kernel/btf/kvm", F_OK);
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

// Reads the kernel's preemption modes, for example "none voluntary (full) lazy". Parentheses mark
// the active mode. Returns false if the kernel does not say its modes.
static bool read_preemption_modes(char *modes, size_t size)
{
	return read_file(AT_FDCWD, "/sys/kernel/debug/sched/preempt", modes, size) > 0;
}

// Returns true if the kernel preempts its own code. If the kernel does not say its preemption
// modes, returns true if the kernel's version text contains the word PREEMPT.
static bool kernel_preempts_itself(void)
{
	struct utsname kernel;
	char modes[64];

	if (read_preemption_modes(modes, sizeof(modes)))
		return strstr(modes, "(full)") || strstr(modes, "(lazy)");
	uname(&kernel);
	return strstr(kernel.version, "PREEMPT");
}

// Returns true if the kernel offers lazy preemption, as kernels from Linux 6.13 on do.
static bool kernel_can_preempt_lazily(void)
{
	char modes[64];

	return read_preemption_modes(modes, sizeof(modes)) && strstr(modes, "lazy");
}

// ---- the maps ----

// Finds a BPF map by its name among the maps that a program uses. Returns a descriptor of the map,
// or -1.
static int open_map(uint32_t program, const char *name)
{
	uint32_t ids[16];
	struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(program);
	int found = -1;

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		info.nr_map_ids = 0;
	for (uint32_t i = 0; i < info.nr_map_ids && found < 0; i++) {
		struct bpf_map_info map = {0};
		uint32_t map_size = sizeof(map);

		found = bpf_map_get_fd_by_id(ids[i]);
		if (found >= 0 && (bpf_obj_get_info_by_fd(found, &map, &map_size) ||
				   strcmp(map.name, name) != 0)) {
			close(found);
			found = -1;
		}
	}
	if (fd >= 0)
		close(fd);
	return found;
}

// Makes the set of BPF programs with this generation number the only set that counts and reports.
static void claim(int counts_fd, uint64_t generation)
{
	uint64_t *memory = map_memory(counts_fd, COUNTS_SIZE, PROT_READ | PROT_WRITE);

	if (!memory)
		return;
	__atomic_store_n(&memory[HOST_COUNT_GENERATION], generation, __ATOMIC_RELEASE);
	munmap(memory, COUNTS_SIZE);
}

// Makes the pinned BPF programs count and report again after an attempt to replace them has failed.
static void claim_for_pinned(void)
{
	struct attachment attachment;
	int fd;

	if (loader_find(&attachment) && attachment.pinned && attachment.counts &&
	    attachment.settings.generation) {
		fd = open_map(attachment.program, "counts");
		claim(fd, attachment.settings.generation);
		close(fd);
	}
	loader_close(&attachment);
}

void loader_clean_up(void)
{
	retire_release();
	kretprobe_remove_unused();
	retire(OLD_PINS);
	if (pins_are_complete(NEW_PINS) && pins_replace())
		retire(OLD_PINS);
	retire(NEW_PINS);
	if (!pins_are_complete(PINS))
		retire(PINS);
	claim_for_pinned();
}

static bool is_alike(const struct bpf_map *map, int fd)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);

	return fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &size) &&
	       info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map) &&
	       info.map_flags == bpf_map__map_flags(map);
}

// Makes the new BPF programs use the maps of the old programs. Returns false if an old map and the
// new map of the same name differ in type, sizes or flags. With shared maps, the counts continue,
// no report is lost or written twice, and the new programs recognise calls whose entry the old
// programs saw.
static bool share_maps(const struct programs *new, uint32_t old)
{
	struct bpf_map *const maps[] = {new->maps.counts, new->maps.vcpu_states, new->maps.marks,
					new->maps.budgets, new->maps.events};
	enum { MAPS = sizeof(maps) / sizeof(maps[0]) };
	bool alike = true;
	int fds[MAPS];

	for (size_t i = 0; i < MAPS; i++) {
		fds[i] = open_map(old, bpf_map__name(maps[i]));
		alike = is_alike(maps[i], fds[i]) && alike;
	}
	for (size_t i = 0; i < MAPS; i++) {
		if (alike)
			alike = !bpf_map__reuse_fd(maps[i], fds[i]);
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return alike;
}

static uint32_t clamp(uint32_t value, uint32_t least, uint32_t most)
{
	return value < least ? least : value > most ? most : value;
}

// Sets the sizes of the BPF maps. Lets each group of processes (all processes of one user, service
// or VM) use at most a quarter of the map vcpu_states and an eighth of the ring buffer `events`.
static void size_maps(const struct programs *programs, struct host_settings *settings)
{
	int possible = libbpf_num_possible_cpus();
	uint32_t cpus = possible > 0 ? (uint32_t)possible : 1;
	uint32_t vcpus = clamp(cpus * VCPUS_PER_CPU,
			       bpf_map__max_entries(programs->maps.vcpu_states), MOST_VCPUS);
	uint32_t marks = clamp(vcpus, bpf_map__max_entries(programs->maps.marks), MOST_VCPUS);
	uint32_t ring = bpf_map__max_entries(programs->maps.events);

	while (ring < cpus * RING_PER_CPU)
		ring *= 2;
	bpf_map__set_max_entries(programs->maps.vcpu_states, vcpus);
	bpf_map__set_max_entries(programs->maps.marks, marks);
	bpf_map__set_max_entries(programs->maps.events, ring);
	settings->group_vcpus = vcpus / 4;
	settings->group_reports = ring / 8 / sizeof(struct host_event);
}

// The set of BPF programs that `xsaveshim host enable` attaches.
struct set {
	struct programs *skeleton;
	struct bpf_program *programs[PIN_COUNT]; // NULL: this host does not need the program
	struct bpf_link *links[PIN_COUNT];
	bool shares_maps; // the set uses the BPF maps of the set that it replaces
};

static void choose_programs(struct set *set, enum host_exit exit)
{
	bool kretprobe = exit == HOST_EXIT_KRETPROBE;
	struct bpf_program **chosen = set->programs, *program = NULL;
	struct programs *skeleton = set->skeleton;

	chosen[PIN_ENTRY] = skeleton->progs.xsaveshim_entry;
	chosen[PIN_AGAIN] = kretprobe ? NULL : skeleton->progs.xsaveshim_again;
	chosen[PIN_EXIT] =
		kretprobe ? skeleton->progs.xsaveshim_ret : skeleton->progs.xsaveshim_exit;
	if (!kretprobe && kernel_preempts_itself()) {
		chosen[PIN_AGAIN2] = skeleton->progs.xsaveshim_again2;
		chosen[PIN_EXIT2] = skeleton->progs.xsaveshim_exit2;
		// Kernels that offer lazy preemption preempt threads in an fentry program more
		// often than earlier kernels, in each of their modes.
		if (kernel_can_preempt_lazily())
			chosen[PIN_AGAIN3] = skeleton->progs.xsaveshim_again3;
	}
	chosen[PIN_GONE] = skeleton->progs.xsaveshim_gone;
	chosen[PIN_MADE] = skeleton->progs.xsaveshim_made;
	skeleton->rodata->exits_twice = chosen[PIN_EXIT2];
	while ((program = bpf_object__next_program(skeleton->obj, program)))
		bpf_program__set_autoload(program, false);
	for (size_t i = 0; i < PIN_COUNT; i++)
		if (chosen[i])
			bpf_program__set_autoload(chosen[i], true);
}

static bool is_retired(const struct bpf_program *program)
{
	return bpf_program__type(program) == BPF_PROG_TYPE_TRACING;
}

static int pin_programs(const struct set *set)
{
	if (mkdir(NEW_PINS, S_IRWXU))
		return -errno;
	for (size_t i = 0; i < PIN_COUNT; i++)
		if (set->programs[i] && is_retired(set->programs[i]) &&
		    bpf_obj_pin(bpf_program__fd(set->programs[i]),
				pin_path(NEW_PINS, pin_names[i].program)))
			return -errno;
	return 0;
}

static int attach(struct set *set)
{
	for (size_t i = 0; i < PIN_COUNT; i++) {
		if (!set->programs[i])
			continue;
		set->links[i] = set->programs[i] == set->skeleton->progs.xsaveshim_ret
					? kretprobe_attach(set->programs[i])
					: bpf_program__attach(set->programs[i]);
		if (!set->links[i])
			return -errno;
	}
	return 0;
}

// Pins the fentry and fexit programs before it attaches them: if a signal kills this process, the
// kernel keeps the pinned programs. Without pins, the kernel would free the programs at once, and
// could crash: see retire.h.
static int load_and_attach(struct set *set, struct host_settings settings)
{
	const struct programs *programs = set->skeleton;
	int error = programs__load(set->skeleton);

	if (!error)
		error = write_settings(bpf_map__fd(programs->maps.settings), settings);
	if (!error)
		error = pin_programs(set);
	if (!error && !set->shares_maps)
		claim(bpf_map__fd(programs->maps.counts), settings.generation);
	if (!error)
		error = attach(set);
	// If the old and the new programs share their maps, only the new programs count from here
	// on.
	if (!error && set->shares_maps)
		claim(bpf_map__fd(programs->maps.counts), settings.generation);
	return error;
}

static int pin_links(const struct set *set)
{
	int error = 0;

	for (size_t i = PIN_COUNT; i-- > 0 && !error;)
		if (set->links[i])
			error = bpf_link__pin(set->links[i], pin_path(NEW_PINS, pin_names[i].link));
	return error;
}

static struct attachment attachment_of(const struct programs *programs,
				       struct host_settings settings)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);
	int fd = bpf_program__fd(programs->progs.xsaveshim_entry);

	return (struct attachment){
		.program = bpf_obj_get_info_by_fd(fd, &info, &size) ? 0 : info.id,
		.events_map = -1,
		.counts = map_memory(bpf_map__fd(programs->maps.counts), COUNTS_SIZE, PROT_READ),
		.settings = settings,
	};
}

static const char *check_and_pin(const struct set *set, struct host_settings settings)
{
	static struct host_check check;
	struct attachment attachment = attachment_of(set->skeleton, settings);
	sigset_t all, before;
	int error;

	check = loader_check(&attachment);
	loader_close(&attachment);
	if (check.state != HOST_ACTIVE)
		return check.reason;
	// Blocks all signals, so that only SIGKILL can end this process between the first pin of a
	// link and the return of pins_replace().
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	error = pin_links(set);
	if (!error && !pins_replace())
		error = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error ? failure(NEW_PINS, error) : NULL;
}

const char *loader_enable(struct host_settings settings, bool *forgets)
{
	static struct selftest selftest;
	uint32_t old = pinned_program();
	struct set set = {0};
	const char *reason;
	int error;

	if (!selftest_run(&selftest))
		return selftest.problem;
	settings.caps = (struct host_caps){
		selftest.supported, xstate_host_xcr0(), xstate_host_mxcsr_reserved()};
	libbpf_set_print(keep_warning);
	set.skeleton = programs__open();
	if (!set.skeleton)
		return failure("libbpf", -errno);
	settings.exit = has_btf_of_kvm() ? HOST_EXIT_FEXIT : HOST_EXIT_KRETPROBE;
	settings.generation = nanoseconds_since_boot();
	choose_programs(&set, settings.exit);
	size_maps(set.skeleton, &settings);
	set.shares_maps = old && share_maps(set.skeleton, old);
	*forgets = old && !set.shares_maps;
	error = load_and_attach(&set, settings);
	reason = error ? failure(warning[0] ? warning
					    : "the kernel refuses xsaveshim's BPF programs",
				 error)
		       : check_and_pin(&set, settings);
	// After a failure, pins the new links, so that the new programs stay attached until
	// retire() detaches them safely.
	if (reason) {
		claim_for_pinned();
		pin_links(&set);
	}
	for (size_t i = 0; i < PIN_COUNT; i++)
		bpf_link__destroy(set.links[i]);
	programs__destroy(set.skeleton);
	retire(reason ? NEW_PINS : OLD_PINS);
	kretprobe_remove_unused();
	return reason;
}
