// SPDX-License-Identifier: MIT
#include "requirements.h"

#include <cpuid.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>

#include "pins.h"
#include "shared/helpers.h"

#define LOCKDOWN "/sys/kernel/security/lockdown"
#define FTRACE "/proc/sys/kernel/ftrace_enabled"
// The kernel creates this file together with KVM's device. The file /dev/kvm does not prove that
// KVM is loaded, because a distribution may create /dev/kvm without KVM's driver.
#define DEVICE "/sys/class/misc/kvm"
#define DEVICE_TRIES 50
#define DEVICE_PAUSE_NS 200000000
#define KPROBES "/sys/kernel/debug/kprobes/enabled"

static char line[320];

static const char *content(const char *path)
{
	static char text[128];

	read_file(AT_FDCWD, path, text, sizeof(text));
	return text;
}

static bool is_capable(unsigned int capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

	syscall(SYS_capget, &header, data);
	return data[capability / 32].effective >> capability % 32 & 1;
}

static const char *missing_privilege(void)
{
	if (geteuid())
		return "run this as root";
	if (!strstr(content("/proc/self/uid_map"), "4294967295"))
		return "this user is root only in a user namespace: run this outside of containers";
	if (!is_capable(CAP_SYS_ADMIN))
		return "root lacks CAP_SYS_ADMIN: run this outside of containers and of systemd units that drop CAP_SYS_ADMIN (CAP_BPF and CAP_PERFMON are not enough)";
	return NULL;
}

// Linux 5.15 is the first kernel that can pin the link of a kprobe.
static const char *old_kernel(void)
{
	struct utsname host;

	uname(&host);
	if (strverscmp(host.release, "5.15") >= 0)
		return NULL;
	snprintf(line, sizeof(line),
		 "this kernel is %s, but the host mode needs 5.15 or later: use the library here",
		 host.release);
	return line;
}

static const char *missing_btf(void)
{
	return access("/sys/kernel/btf/vmlinux", R_OK)
		       ? "this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF): use the library here"
		       : NULL;
}

static const char *lockdown(void)
{
	const char *text = content(LOCKDOWN);
	const char *level = strstr(text, "[integrity]")		? "integrity"
			    : strstr(text, "[confidentiality]") ? "confidentiality"
								: NULL;

	if (!level)
		return NULL;
	snprintf(
		line, sizeof(line),
		"this kernel is locked down (" LOCKDOWN
		" says %s), perhaps by Secure Boot: no BPF program may write to a process's memory; use the library here",
		level);
	return line;
}

static const char *kvm_module(void)
{
	unsigned int a, b = 0, c, d;

	__get_cpuid(0, &a, &b, &c, &d);
	// CPUs with the vendor string AuthenticAMD or HygonGenuine use the module kvm_amd.
	return !memcmp(&b, "Auth", 4) || !memcmp(&b, "Hygo", 4) ? "kvm_amd" : "kvm_intel";
}

static bool is_there(const char *path)
{
	return !access(path, F_OK);
}

static const char *missing_kvm(void)
{
	// The kernel loads the module kvm first. KVM's device appears only later, when the kernel
	// loads kvm_intel or kvm_amd.
	for (int i = 0; i < DEVICE_TRIES && is_there("/sys/module/kvm") && !is_there(DEVICE); i++)
		nanosleep(&(struct timespec){.tv_nsec = DEVICE_PAUSE_NS}, NULL);
	if (is_there(DEVICE) && is_there("/sys/module/kvm"))
		return NULL;
	snprintf(line, sizeof(line),
		 "KVM is not loaded: modprobe %s; if that fails, the kernel's log says why (dmesg)",
		 kvm_module());
	return line;
}

const char *missing_tracing(void)
{
	if (content(FTRACE)[0] == '0')
		return "the kernel's function tracing is switched off: sysctl kernel.ftrace_enabled=1";
	if (content(KPROBES)[0] == '0')
		return "the kernel's kprobes are switched off: echo 1 >" KPROBES;
	return NULL;
}

const char *missing_requirement(bool *is_final)
{
	static const struct {
		const char *(*check)(void);
		bool is_final;
	} checks[] = {{missing_privilege, true}, {old_kernel, true},   {missing_btf, true},
		      {lockdown, true},		 {missing_kvm, false}, {missing_tracing, false},
		      {pins_problem, false}};

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		const char *reason = checks[i].check();

		*is_final = reason && checks[i].is_final;
		if (reason)
			return reason;
	}
	return NULL;
}
