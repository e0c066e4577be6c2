// SPDX-License-Identifier: MIT
#include "requirements.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/magic.h>

#include "loader.h"

#define LOCKDOWN "/sys/kernel/security/lockdown"
#define FTRACE "/proc/sys/kernel/ftrace_enabled"
#define KPROBES "/sys/kernel/debug/kprobes/enabled"

// For pinned links of kprobes.
#define FIRST_VERSION 5
#define FIRST_PATCHLEVEL 15

static char line[320];

// A file's first bytes; empty where it cannot be read.
static const char *content(const char *path)
{
	static char text[128];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[size < 0 ? 0 : size] = '\0';
	return text;
}

static bool is_capable(unsigned int capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

	return !syscall(SYS_capget, &header, data) &&
	       data[capability / 32].effective >> capability % 32 & 1;
}

static const char *missing_privilege(void)
{
	if (geteuid())
		return "run this as root";
	if (!strstr(content("/proc/self/uid_map"), "4294967295"))
		return "this is root of a user namespace alone: run this outside of containers";
	if (!is_capable(CAP_SYS_ADMIN))
		return "root lacks the capability CAP_SYS_ADMIN here: run this outside of containers and of units that "
		       "drop it "
		       "(CAP_BPF and CAP_PERFMON do not do)";
	return NULL;
}

static const char *old_kernel(void)
{
	unsigned int version = 0, patchlevel = 0;
	struct utsname host;

	uname(&host);
	if (sscanf(host.release, "%u.%u", &version, &patchlevel) == 2 &&
	    (version < FIRST_VERSION ||
	     (version == FIRST_VERSION && patchlevel < FIRST_PATCHLEVEL))) {
		snprintf(
			line, sizeof(line),
			"this kernel is %s, and pinning what is attached needs 5.15: use the library here",
			host.release);
		return line;
	}
	return NULL;
}

static const char *missing_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK)
		       ? "this kernel does not describe its structures (no /sys/kernel/btf/vmlinux, "
			 "CONFIG_DEBUG_INFO_BTF): use the "
			 "library here"
		       : NULL;
}

static const char *lockdown(void)
{
	const char *text = content(LOCKDOWN);
	const char *mode = strstr(text, "[integrity]")	       ? "integrity"
			   : strstr(text, "[confidentiality]") ? "confidentiality"
							       : NULL;

	if (!mode)
		return NULL;
	snprintf(line, sizeof(line),
		 "this kernel is locked down (" LOCKDOWN
		 " says %s, as Secure Boot has it): no BPF program may write a process's "
		 "memory; use the library here",
		 mode);
	return line;
}

static const char *kvm_module(void)
{
	char vendor[13] = "";
	unsigned int a, b, c, d;

	if (__get_cpuid(0, &a, &b, &c, &d)) {
		memcpy(vendor, &b, 4);
		memcpy(vendor + 4, &d, 4);
		memcpy(vendor + 8, &c, 4);
	}
	return !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine")
		       ? "kvm_amd"
		       : "kvm_intel";
}

static bool load_module(const char *module)
{
	char program[] = "modprobe", quiet[] = "-q", name[32];
	char *argv[] = {program, quiet, name, NULL};
	int status;
	pid_t pid;

	snprintf(name, sizeof(name), "%s", module);
	if (posix_spawnp(&pid, program, NULL, NULL, argv, environ))
		return false;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return !status;
}

static const char *missing_kvm(void)
{
	const char *module = kvm_module();

	if (!access("/dev/kvm", F_OK) && !access("/sys/module/kvm", F_OK))
		return NULL;
	if (load_module(module) && !access("/dev/kvm", F_OK))
		return NULL;
	snprintf(
		line, sizeof(line),
		"KVM is not loaded, and `modprobe %s` does not load it: see what the kernel's log says (dmesg)",
		module);
	return line;
}

static const char *tracing_off(void)
{
	if (content(FTRACE)[0] == '0')
		return "the kernel's function tracing is switched off: sysctl kernel.ftrace_enabled=1";
	if (content(KPROBES)[0] == '0')
		return "the kernel's kprobes are switched off: echo 1 >" KPROBES;
	return NULL;
}

static const char *missing_bpffs(void)
{
	struct statfs fs;

	return statfs(BPFFS, &fs) || fs.f_type != BPF_FS_MAGIC
		       ? BPFFS
		       " is not mounted, where the programs are to stay: mount -t bpf bpf " BPFFS
		       : NULL;
}

static const char *first_of(const char *(*const checks[])(void), size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *found = checks[i]();

		if (found)
			return found;
	}
	return NULL;
}

const char *obstacle_to_enabling(void)
{
	static const char *(*const checks[])(void) = {
		missing_privilege, old_kernel,	missing_btf,  lockdown,
		missing_kvm,	   tracing_off, missing_bpffs};

	return first_of(checks, sizeof(checks) / sizeof(checks[0]));
}

const char *obstacle_to_calling(void)
{
	return tracing_off();
}
