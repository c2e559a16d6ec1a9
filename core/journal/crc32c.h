/*
 * CRC32C (Castagnoli), the checksum of the journal. Detects every flip of up to three bits in a frame of the sizes used
 * here, and all but one in 2^32 of anything else. The SSE4.2 instruction where the build has it, else a table. Start
 * with 0; a result fed back as `crc` continues over the next bytes. Any thread.
 */
#ifndef TM_JOURNAL_CRC32C_H
#define TM_JOURNAL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t tm_crc32c(uint32_t crc, const void *bytes, size_t len);

/* The table-driven form, whatever the build; tests compare the two. */
uint32_t tm_crc32c_portable(uint32_t crc, const void *bytes, size_t len);

#endif
