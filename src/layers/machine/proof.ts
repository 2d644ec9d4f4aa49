/** How a broker proves that it knows the token of its discovery file, before anybody sends it that token. */
import { createHmac, timingSafeEqual } from "node:crypto"

/** What the broker that listens on `port` answers to `nonce`: lower-case hex. It is worth nothing for another port. */
export const proofOf = (bearerToken: string, port: number | string, nonce: string): string =>
  createHmac("sha256", bearerToken).update(`runtime-broker\n${port}\n${nonce}`).digest("hex")

/** Compares in constant time. */
export const isProof = (given: string, bearerToken: string, port: number | string, nonce: string): boolean => {
  const expected = Buffer.from(proofOf(bearerToken, port, nonce), "hex")
  const bytes = Buffer.from(given, "hex")
  return bytes.length === expected.length && timingSafeEqual(bytes, expected)
}
