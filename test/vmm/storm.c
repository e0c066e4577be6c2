// SPDX-License-Identifier: MIT
// storm THREADS ROUNDS: in each round, each thread creates and closes a VM and its vCPUs, so that
// the threads reuse each other's descriptor numbers. Each thread also sets CPUID tables on some
// vCPUs, and loads payloads (XSAVE buffers) with KVM_SET_XSAVE. The threads load some payloads
// through duplicated descriptors, in forked children, and in the handler of a signal that arrives
// again and again. For each load, the program computes which errno and which payload must result,
// and counts a mismatch if the load has a different result. The program prints "restores=N trims=N
// trimmed=N mismatches=N":
// - restores: the number of loads
// - trims: the number of loads for which xsaveshim must trim the payload (clear bits of XSTATE_BV)
// - trimmed: the number of vCPUs for which xsaveshim trimmed a payload. xsaveshim's log must have a
//   report for each of these vCPUs. Loads through duplicated descriptors, in children and in the
//   signal handler do not count
// - mismatches: the number of mismatches
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm.h"

#define MAX_THREADS 256
#define VCPUS 3
// The lowest number that a duplicated descriptor may get. KVM_CREATE_VCPU always returns a lower
// number. So no duplicate gets the number of a closed vCPU, whose CPUID table xsaveshim's library
// may still know.
#define DUPLICATES 3000

// The counts are in shared memory, so that forked children can count, too.
static struct {
	atomic_ulong restores, trims, trimmed, mismatches;
} * counts;

static int kvm;
static uint64_t supported;
// The process that created the vCPUs. If any other process makes an ioctl on these vCPUs, KVM fails
// the ioctl with EIO.
static pid_t creator;

struct vcpu {
	int fd;
	bool has_cpuid;
	bool trimmed;
	uint32_t xcr0;
};

struct worker {
	pthread_t thread;
	uint64_t random;
	unsigned long rounds;
	struct vcpu steady; // the signal handler's vCPU, whose CPUID table never changes
	unsigned char payload[sizeof(struct kvm_xsave)];
	unsigned char handlers[sizeof(struct kvm_xsave)];
};

static struct worker workers[MAX_THREADS];
static _Thread_local struct worker *self;

static uint32_t draw(void)
{
	self->random = self->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(self->random >> 33);
}

static void set_cpuid(struct vcpu *vcpu, uint32_t xcr0)
{
	struct leaf_0xd cpuid = LEAF_0XD(xcr0);

	kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, &cpuid);
	vcpu->has_cpuid = true;
	vcpu->xcr0 = xcr0;
}

static void fill(unsigned char *payload, uint64_t xstate_bv)
{
	memset(payload, 0, sizeof(struct kvm_xsave));
	set_mxcsr(payload, MXCSR_DEFAULT);
	set_xstate_bv(payload, xstate_bv);
}

static bool is_filled(const unsigned char *payload, uint64_t xstate_bv)
{
	unsigned char expected[sizeof(struct kvm_xsave)];

	fill(expected, xstate_bv);
	return !memcmp(payload, expected, sizeof(expected));
}

// Loads a payload and checks the result. Returns true if xsaveshim trimmed the payload correctly.
// In a forked child, KVM fails the load with EIO, and the payload must not change. The fake KVM
// (standin.so) does not fail this load, but answers a child as it answers the child's parent.
static bool restore(struct vcpu vcpu, unsigned char *payload, uint64_t given)
{
	uint64_t written = vcpu.has_cpuid ? given & (vcpu.xcr0 | XFEATURES_FP_SSE) : given;
	int expected = written & ~supported ? EINVAL : 0;
	char line[160];
	int error, length;

	fill(payload, given);
	error = ioctl(vcpu.fd, KVM_SET_XSAVE, payload) ? errno : 0;
	counts->restores++;
	if (error == EIO && getpid() != creator) {
		written = given;
		expected = EIO;
	}
	if (written != given)
		counts->trims++;
	if (is_filled(payload, written) && error == expected)
		return written != given;
	counts->mismatches++;
	// on_signal() calls this function, and a signal handler must not use dprintf(), because
	// dprintf() takes locks of stdio.
	length = snprintf(line, sizeof(line),
			  "mismatch: fd=%d has-cpuid=%d xcr0=%#x xstate-bv-before=%#llx "
			  "xstate-bv-after=%#llx errno=%d\n",
			  vcpu.fd, vcpu.has_cpuid, vcpu.xcr0, (unsigned long long)given,
			  (unsigned long long)get_xstate_bv(payload), error);
	if (write(STDOUT_FILENO, line, (size_t)length) != length)
		_exit(2);
	return false;
}

static void on_signal(int number)
{
	int saved = errno;

	(void)number;
	if (self)
		restore(self->steady, self->handlers, 0x2e7);
	errno = saved;
}

// Loads a payload through a duplicate of the vCPU's descriptor. xsaveshim's library does not know
// the duplicate, so the library trims by the CPUID table that KVM_GET_CPUID2 returns. To compute
// the expected result, this function reads this table with a direct system call, which the library
// does not see. With the fake KVM (standin.so), the direct call fails with ENOTTY. In this case the
// expected result follows from the table that storm set, because the fake KVM returns this table.
static void restore_duplicate(struct vcpu vcpu)
{
	struct cpuid_table cpuid = {.head = {.nent = KVM_CPUID_ENTRIES_MAX}};
	struct vcpu duplicate = vcpu;

	if (!raw_ioctl(vcpu.fd, KVM_GET_CPUID2, &cpuid))
		duplicate.xcr0 = (uint32_t)xcr0_of_table(&cpuid);
	else if (errno != ENOTTY)
		err(2, "KVM_GET_CPUID2");
	duplicate.fd = fcntl(vcpu.fd, F_DUPFD_CLOEXEC, DUPLICATES);
	if (duplicate.fd < 0)
		err(2, "F_DUPFD_CLOEXEC");
	restore(duplicate, self->payload, draw() & 0x2ff);
	close(duplicate.fd);
}

static void restore_in_child(struct vcpu vcpu)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		err(2, "fork");
	if (!child) {
		restore(vcpu, self->payload, 0x2e7);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			err(2, "waitpid");
	if (status)
		counts->mismatches++;
}

static struct vcpu make(int vm, int id)
{
	return (struct vcpu){.fd = kvm_ioctl(vm, KVM_CREATE_VCPU, (void *)(intptr_t)id)};
}

static void play_round(void)
{
	struct vcpu vcpus[VCPUS];
	int vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);

	for (int i = 0; i < VCPUS; i++) {
		vcpus[i] = make(vm, i);
		if (draw() % 4)
			set_cpuid(&vcpus[i], draw() & 0x2ff);
	}
	for (int i = 0; i < 4 * VCPUS; i++) {
		struct vcpu *vcpu = &vcpus[draw() % VCPUS];

		if (!(draw() % 4))
			set_cpuid(vcpu, draw() & 0x2ff);
		if (restore(*vcpu, self->payload, draw() & 0x2ff) && !vcpu->trimmed) {
			vcpu->trimmed = true;
			counts->trimmed++;
		}
	}
	restore_duplicate(vcpus[0]);
	if (!(draw() % 8))
		restore_in_child(vcpus[1]);
	for (int i = 0; i < VCPUS; i++)
		close(vcpus[i].fd);
	close(vm);
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	int vm = kvm_ioctl(kvm, KVM_CREATE_VM, NULL);

	worker->steady = make(vm, 0);
	set_cpuid(&worker->steady, 0x7);
	self = worker;
	while (worker->rounds) {
		play_round();
		worker->rounds--;
	}
	self = NULL;
	close(worker->steady.fd);
	close(vm);
	return NULL;
}

static void start(unsigned long threads, unsigned long rounds)
{
	struct cpuid_table cpuid = {.head = {.nent = KVM_CPUID_ENTRIES_MAX}};
	struct sigaction action = {.sa_handler = on_signal};
	struct rlimit limit = {16384, 16384};

	setrlimit(RLIMIT_NOFILE, &limit);
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	kvm = open_kvm();
	if (counts == MAP_FAILED)
		err(2, "start");
	kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid);
	supported = xcr0_of_table(&cpuid);
	creator = getpid();
	sigaction(SIGUSR1, &action, NULL);
	for (unsigned long i = 0; i < threads; i++) {
		workers[i].random = i + 1;
		workers[i].rounds = rounds;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			err(2, "pthread_create");
	}
}

int main(int argc, char **argv)
{
	unsigned long threads = argc == 3 ? strtoul(argv[1], NULL, 0) : 0;
	const struct timespec pause = {.tv_nsec = 200000};

	if (!threads || threads > MAX_THREADS)
		errx(2, "usage: storm THREADS ROUNDS");
	start(threads, strtoul(argv[2], NULL, 0));
	for (unsigned long i = 0; i < threads; i++) {
		while (pthread_tryjoin_np(workers[i].thread, NULL)) {
			pthread_kill(workers[i].thread, SIGUSR1);
			nanosleep(&pause, NULL);
		}
	}
	printf("restores=%lu trims=%lu trimmed=%lu mismatches=%lu\n", counts->restores,
	       counts->trims, counts->trimmed, counts->mismatches);
	return counts->mismatches ? 1 : 0;
}
