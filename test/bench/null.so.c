// SPDX-License-Identifier: MIT
// A library whose ioctl() returns 0 at once. The benchmark lists this library behind xsaveshim's
// library in LD_PRELOAD, so that xsaveshim's library calls this ioctl() and not KVM, and the
// measured time does not include KVM's time.
int ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	return 0;
}
