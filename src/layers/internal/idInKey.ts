import { createHash } from "node:crypto"

/**
 * An id from outside as a part of a key: ids may be any text, keys may not. The same for the same id, another for another, also
 * where the text has halves of characters, which are all one in UTF-8.
 */
export const idInKey = (id: string): string =>
  /^[A-Za-z0-9_.:-]{1,128}$/.test(id) ? id : `~${createHash("sha256").update(id, "utf16le").digest("hex")}`
