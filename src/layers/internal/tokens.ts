import { randomBytes, timingSafeEqual } from "node:crypto"

/** A comparison with `expected` that takes the same time for all texts as long as it: how long tokens are is no secret. */
export const tokenMatcher = (expected: string): ((presented: string) => boolean) => {
  const wanted = Buffer.from(expected)
  return (presented) => {
    const given = Buffer.from(presented)
    return given.length === wanted.length && timingSafeEqual(given, wanted)
  }
}

/** 32 random bytes, base64url: 43 characters. */
export const mintToken = (): string => randomBytes(32).toString("base64url")
