/** The identity of a broker on the loopback network: no account, no secret. */
import { Layer, Redacted } from "effect"
import { Credentials } from "../services/Credentials.js"

export const layer = (accountId: string): Layer.Layer<Credentials> =>
  Layer.succeed(Credentials, { accountId, runtimeToken: Redacted.make("loopback"), connectorUrl: "", apiOrigin: "" })
