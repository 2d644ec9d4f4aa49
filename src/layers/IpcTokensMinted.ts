import { Layer, Redacted } from "effect"
import { IpcTokens } from "../services/IpcTokens.js"
import { mintToken } from "./internal/tokens.js"

/** New tokens for this process. */
export const layer: Layer.Layer<IpcTokens> = Layer.sync(IpcTokens, () => ({
  plugin: Redacted.make(mintToken()),
  operator: Redacted.make(mintToken())
}))
