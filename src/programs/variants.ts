/** Which variants the settings ask for, and on which identity they run. */
import { fileURLToPath } from "node:url"
import { Layer } from "effect"
import * as AccountCheckPlatform from "../layers/AccountCheckPlatform.js"
import * as ConnectorGateway from "../layers/ConnectorGateway.js"
import * as ConnectorLoopback from "../layers/ConnectorLoopback.js"
import * as ControlEventsHttp from "../layers/ControlEventsHttp.js"
import * as CredentialsFile from "../layers/CredentialsFile.js"
import * as CredentialsLoopback from "../layers/CredentialsLoopback.js"
import * as PlatformApiHttp from "../layers/PlatformApiHttp.js"
import * as PlatformApiLocal from "../layers/PlatformApiLocal.js"
import * as SpawnerProcess from "../layers/SpawnerProcess.js"
import * as StoreLmdb from "../layers/StoreLmdb.js"
import * as StoreMemory from "../layers/StoreMemory.js"
import type { Settings } from "../services/BrokerConfig.js"
import type { Credentials, CredentialsError } from "../services/Credentials.js"
import type { StoreError } from "../services/StoreReport.js"
import type { Variants } from "./Graph.js"

export const credentialsFor = (
  { accountId, connector }: Settings,
  environment: { readonly [name: string]: string | undefined }
): Layer.Layer<Credentials, CredentialsError> =>
  connector === "loopback" ? CredentialsLoopback.layer(accountId) : CredentialsFile.layer(environment, accountId)

/** A damaged store is read by a process of its own: the bundle beside this one. */
const salvageProgram = fileURLToPath(new URL("storeSalvage.js", import.meta.url))

export const variantsFor = ({ connector, store: kind }: Settings): Variants<StoreError> => {
  const store = kind === "memory" ? StoreMemory.layer : StoreLmdb.layerWith({ salvageProgram })
  return connector === "loopback"
    ? { store, platform: PlatformApiLocal.layer, connector: ConnectorLoopback.layer }
    : {
        store,
        platform: PlatformApiHttp.layer,
        connector: ConnectorGateway.layer,
        control: {
          events: Layer.provide(ControlEventsHttp.layer, AccountCheckPlatform.layer),
          spawner: SpawnerProcess.layer
        }
      }
}
