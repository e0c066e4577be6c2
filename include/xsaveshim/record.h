// SPDX-License-Identifier: MIT
// A record in the memory of a VMM with the library, and of a supervisor: what `xsaveshim status`
// reads of them from outside.
//
// Status finds it by its mark, in the writable data of the library or of the command. These
// functions are thread- and async-signal-safe and never fail.
#ifndef XSAVESHIM_RECORD_H
#define XSAVESHIM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/settings.h"

#define RECORD_MAGIC "xsaveshimrecord"

// To be increased with every change of the structure or of an enum in it: status may be newer or
// older than the library.
#define RECORD_VERSION 1

// Define it static, with RECORD_MAGIC in place. Everything else starts out as zero.
struct xsaveshim_record {
	_Alignas(16) char magic[16];
	_Atomic uint32_t version; // RECORD_VERSION once the settings are in place; before that 0
	_Atomic uint32_t
		vcpu_seen; // in the library: 1 once it has seen a call for one of the VMM's vCPUs
	uint32_t trim;	   // the settings' enums
	uint32_t refused;
	uint32_t log;
	uint32_t log_level;
	const char *log_path; // with LOG_PATH; an address in the process that the record is of
};

// Puts the settings that are in use into the record, which points to their log_path from then on.
void record_publish(struct xsaveshim_record *record, const struct settings *settings);

// Notes that a call for one of the VMM's vCPUs was seen.
static inline void record_vcpu(struct xsaveshim_record *record)
{
	atomic_store_explicit(&record->vcpu_seen, 1, memory_order_relaxed);
}

// Takes the settings out of copies of a record and of what its log_path points to, whatever their
// bytes. False where the record is of another version, or holds no settings.
bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings);

#endif
