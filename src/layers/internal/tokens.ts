import { createHash, randomBytes, timingSafeEqual } from "node:crypto"

const digest = (text: string) => createHash("sha256").update(text, "utf8").digest()

/** A comparison with `expected` that takes the same time whatever the other text is. */
export const tokenMatcher = (expected: string): ((presented: string) => boolean) => {
  const wanted = digest(expected)
  return (presented) => timingSafeEqual(digest(presented), wanted)
}

/** 32 random bytes, base64url: 43 characters. */
export const mintToken = (): string => randomBytes(32).toString("base64url")
