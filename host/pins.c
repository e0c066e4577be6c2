// SPDX-License-Identifier: MIT
#include "pins.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "kretprobe.h"
#include "retire.h"

const struct pin_names pin_names[PIN_COUNT] = {
	[PIN_ENTRY] = {"entry", NULL},	       [PIN_AGAIN] = {"again", "again-program"},
	[PIN_EXIT] = {"exit", "exit-program"}, [PIN_EXIT2] = {"exit2", "exit2-program"},
	[PIN_GONE] = {"gone", NULL},
};

const char *pin_path(const char *directory, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

bool pins_are_complete(const char *directory)
{
	return !access(pin_path(directory, pin_names[PIN_ENTRY].link), F_OK);
}

bool pins_replace(void)
{
	if (rename(PINS, OLD_PINS) && errno != ENOENT)
		return false;
	return !rename(NEW_PINS, PINS);
}

void pins_clean_up(void)
{
	retire_release();
	kretprobe_remove_unused();
	retire(OLD_PINS);
	if (pins_are_complete(NEW_PINS) && pins_replace())
		retire(OLD_PINS);
	retire(NEW_PINS);
	if (!pins_are_complete(PINS))
		retire(PINS);
}
