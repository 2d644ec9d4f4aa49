/** Which variants the settings ask for, and on which identity they run. */
import { Effect, type Layer } from "effect"
import * as ConnectorLoopback from "../layers/ConnectorLoopback.js"
import * as CredentialsLoopback from "../layers/CredentialsLoopback.js"
import * as PlatformApiLocal from "../layers/PlatformApiLocal.js"
import * as StoreMemory from "../layers/StoreMemory.js"
import type { Settings } from "../services/BrokerConfig.js"
import { type Credentials, CredentialsError } from "../services/Credentials.js"
import type { Variants } from "./Graph.js"

export const credentialsFor = (settings: Settings): Effect.Effect<Layer.Layer<Credentials>, CredentialsError> =>
  settings.connector === "loopback"
    ? Effect.succeed(CredentialsLoopback.layer(settings.accountId))
    : new CredentialsError({
        message:
          `No credentials were found for account "${settings.accountId}". ` +
          "To run without an account, within this machine, start with --connector loopback."
      })

export const variantsFor = (_: Settings): Variants<never> => ({
  store: StoreMemory.layer,
  platform: PlatformApiLocal.layer,
  connector: ConnectorLoopback.layer
})
