// SPDX-License-Identifier: MIT
// A record in the memory of a VMM that has the library, and of a supervisor. `xsaveshim status`
// reads it from outside: it searches the writable data of the library or of the command for the
// record's magic.
//
// These functions are thread- and async-signal-safe and never fail.
#ifndef XSAVESHIM_RECORD_H
#define XSAVESHIM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/settings.h"

#define RECORD_MAGIC "xsaveshimrecord"

// Increase it with every change of the structure or of its enums: status may be of another version.
#define RECORD_VERSION 3

// The events that a record counts, those that the rate limit leaves unreported included.
enum record_count {
	RECORD_TRIMMED,
	RECORD_WOULD_TRIM,
	RECORD_REFUSED, // a payload or an XCR0
	RECORD_LOST,
	RECORD_REFUSED_STATE,
	RECORD_COUNTS,
};

// Define it static, with RECORD_MAGIC in place and everything else zero.
struct xsaveshim_record {
	_Alignas(16) char magic[16];
	_Atomic uint32_t version;    // RECORD_VERSION once the settings are in place; before, 0
	_Atomic uint32_t vcpu_seen;  // the library sets it to 1 at its first call for a vCPU
	uint32_t values[SETTINGS];   // of the settings, by enum setting
	const char *log_path;	     // with LOG_PATH; an address in the record's process
	_Atomic uint32_t log_in_use; // as struct log notes it
	_Atomic uint64_t counts[RECORD_COUNTS];
};

// Puts the settings that are in use into the record, which from then on points to their log_path.
void record_publish(struct xsaveshim_record *record, const struct settings *settings);

// Notes that a call for one of the VMM's vCPUs was seen.
static inline void record_vcpu(struct xsaveshim_record *record)
{
	atomic_store_explicit(&record->vcpu_seen, 1, memory_order_relaxed);
}

// Counts an event.
static inline void record_event(struct xsaveshim_record *record, enum record_count event)
{
	atomic_fetch_add_explicit(&record->counts[event], 1, memory_order_relaxed);
}

// Reads the settings from copies of a record and of the text that its log_path points to; both may
// hold any bytes. Returns false if the record is of another version or holds no settings.
bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings);

// Reads where the log's lines go from the copy of a record. Returns false if the log is not open.
bool record_log_in_use(const struct xsaveshim_record *record, enum log_target *target);

#endif
