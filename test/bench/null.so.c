// SPDX-License-Identifier: MIT
// A library whose ioctl() does nothing and succeeds. The benchmark preloads xsaveshim's library in
// front of this library, so that the measured time does not include KVM's time.
int ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	return 0;
}
