// SPDX-License-Identifier: MIT
// The record in the memory of a supervisor, and of a VMM that has loaded the library. It holds the
// settings in use; `xsaveshim status` reads it from outside.
//
// Status finds a record by its magic, in the writable data of the library or of the command. These
// functions are thread- and async-signal-safe and never fail.
#ifndef XSAVESHIM_RECORD_H
#define XSAVESHIM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/settings.h"

#define RECORD_MAGIC "xsaveshimrecord"

// Increase this with every change of the structure or of an enum in it: status may be newer or
// older than the library.
#define RECORD_VERSION 2

// Define it static, with RECORD_MAGIC in place. Everything else starts as zero.
struct xsaveshim_record {
	_Alignas(16) char magic[16];
	_Atomic uint32_t version;   // RECORD_VERSION once the settings are in place; before that 0
	_Atomic uint32_t vcpu_seen; // in the library: 1 after the first call for a vCPU
	uint32_t trim;		    // this and the next three: the enums of struct settings
	uint32_t refused;
	uint32_t log;
	uint32_t log_level;
	const char *log_path; // with LOG_PATH: an address in the process that has the record
};

// Puts the settings into the record. The record points to settings->log_path from then on.
void record_publish(struct xsaveshim_record *record, const struct settings *settings);

// Notes a call for one of the VMM's vCPUs.
static inline void record_vcpu(struct xsaveshim_record *record)
{
	atomic_store_explicit(&record->vcpu_seen, 1, memory_order_relaxed);
}

// Takes the settings out of a copy of a record, whatever its bytes. log_path: a copy of the bytes
// that the record's log_path points to. Returns false if the record has another version or no valid
// settings.
bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings);

#endif
