// SPDX-License-Identifier: MIT
// `dlopen LIBRARY` calls dlopen(LIBRARY), and then KVM_SET_XSAVE on three vCPUs. The first
// KVM_SET_XSAVE uses the ioctl() that dlsym() finds in LIBRARY or in LIBRARY's dependencies. The
// second uses the same ioctl() after dlclose(). The third uses the ioctl() that the program is
// linked with.
#include <dlfcn.h>
#include <sys/ioctl.h>

#include "story.h"

int main(int argc, char **argv)
{
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	story_ioctl *its_ioctl;

	if (!library) {
		fprintf(stderr, "dlopen: %s\n", argc == 2 ? dlerror() : "which library?");
		return 2;
	}
	*(void **)&its_ioctl = dlsym(library, "ioctl");
	story("library", its_ioctl);
	dlclose(library);
	story("library closed", its_ioctl);
	story("program", ioctl);
	return 0;
}
