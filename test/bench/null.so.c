// SPDX-License-Identifier: MIT
// A library whose ioctl() does nothing and succeeds. The benchmark preloads an interposer in front
// of this library, so the measured time is the time of the interposer alone.
int ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	return 0;
}
