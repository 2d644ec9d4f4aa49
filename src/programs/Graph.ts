/**
 * The whole broker, once: which parts there are and what each is made of. A part may use those before it; they start in this order,
 * and end the other way round.
 */
import { Effect, Layer } from "effect"
import * as AccountCheckPlatform from "../layers/AccountCheckPlatform.js"
import * as BrokerStatusDefault from "../layers/BrokerStatusDefault.js"
import * as ChannelsMemory from "../layers/ChannelsMemory.js"
import * as ControlDispatcherDefault from "../layers/ControlDispatcherDefault.js"
import * as ControlEventsNone from "../layers/ControlEventsNone.js"
import * as ControlOutcomesStore from "../layers/ControlOutcomesStore.js"
import * as CorrelationIndexStore from "../layers/CorrelationIndexStore.js"
import * as DeadLetterQueueDefault from "../layers/DeadLetterQueueDefault.js"
import * as DeadLettersStore from "../layers/DeadLettersStore.js"
import * as DirectoryMemory from "../layers/DirectoryMemory.js"
import * as DispatchDefault from "../layers/DispatchDefault.js"
import * as EmittersOutbox from "../layers/EmittersOutbox.js"
import * as IdempotencyKeysStore from "../layers/IdempotencyKeysStore.js"
import * as InboxStore from "../layers/InboxStore.js"
import * as IpcServerHttp from "../layers/IpcServerHttp.js"
import * as IpcTokensMinted from "../layers/IpcTokensMinted.js"
import { inOrder } from "../layers/inOrder.js"
import * as LeasesPlatform from "../layers/LeasesPlatform.js"
import * as LedgerAuditStore from "../layers/LedgerAuditStore.js"
import * as LedgerMemory from "../layers/LedgerMemory.js"
import * as LimitsMemory from "../layers/LimitsMemory.js"
import * as MailboxesStore from "../layers/MailboxesStore.js"
import * as OutboxStore from "../layers/OutboxStore.js"
import * as PresenceConnector from "../layers/PresenceConnector.js"
import * as RegistrationDefault from "../layers/RegistrationDefault.js"
import * as RegistryStore from "../layers/RegistryStore.js"
import * as ReplyCorrelationsStore from "../layers/ReplyCorrelationsStore.js"
import * as RetryQueueOutbox from "../layers/RetryQueueOutbox.js"
import * as RouterDefault from "../layers/RouterDefault.js"
import * as SenderDefault from "../layers/SenderDefault.js"
import * as SendQueueStore from "../layers/SendQueueStore.js"
import * as ShutdownDefault from "../layers/ShutdownDefault.js"
import * as SpawnerNone from "../layers/SpawnerNone.js"
import type { BrokerConfig } from "../services/BrokerConfig.js"
import type { Connector } from "../services/Connector.js"
import type { ControlDispatcher } from "../services/ControlDispatcher.js"
import { ControlEvents } from "../services/ControlEvents.js"
import type { ControlOutcomes } from "../services/ControlOutcomes.js"
import type { CorrelationIndex } from "../services/CorrelationIndex.js"
import type { Credentials } from "../services/Credentials.js"
import type { Directory } from "../services/Directory.js"
import type { EventLog } from "../services/EventLog.js"
import type { Liveness } from "../services/Liveness.js"
import type { Paths } from "../services/Paths.js"
import type { PlatformApi } from "../services/PlatformApi.js"
import type { Shutdown } from "../services/Shutdown.js"
import type { Spawner } from "../services/Spawner.js"
import type { Store } from "../services/Store.js"
import type { StoreInspection } from "../services/StoreInspection.js"
import type { StoreReport } from "../services/StoreReport.js"

/** What every part may use. */
export type Ground = BrokerConfig | Credentials | EventLog | Liveness | Paths

/** The parts with variants. */
export interface Variants<E> {
  readonly store: Layer.Layer<Store | StoreReport | StoreInspection, E, Ground>
  readonly platform: Layer.Layer<PlatformApi, E, Ground>
  /** It may ask who is registered here, and who sent what. */
  readonly connector: Layer.Layer<Connector, E, Ground | Store | Directory | CorrelationIndex | Shutdown>
  /** What the platform may tell the broker; nothing unless given. */
  readonly control?: Control<E>
}

export interface Control<E> {
  readonly events: Layer.Layer<ControlEvents, E, Ground | Store | PlatformApi | Shutdown | ControlDispatcher>
  readonly spawner: Layer.Layer<Spawner, E, Ground | Store | ControlOutcomes>
}

const noControl: Control<never> = { events: ControlEventsNone.layer, spawner: SpawnerNone.layer }

/** The broker without its IPC surface: everything between the network, the platform and the channels of plugins. */
export const coreWith = <E>(variants: Variants<E>) => {
  const { events, spawner } = variants.control ?? noControl
  return inOrder(
    // What is counted, and whether the broker leaves.
    LedgerMemory.layer,
    LimitsMemory.layer,
    ShutdownDefault.layer,
    // Where records go, and who is told.
    variants.store,
    variants.platform,
    // What is owed to the platform.
    OutboxStore.layer,
    RetryQueueOutbox.layer,
    EmittersOutbox.layer,
    // What is remembered.
    ControlOutcomesStore.layer,
    CorrelationIndexStore.layer,
    ReplyCorrelationsStore.layer,
    IdempotencyKeysStore.layer,
    // Who is there.
    ChannelsMemory.layer,
    DirectoryMemory.layer,
    // The network.
    variants.connector,
    // Where messages lie.
    InboxStore.layer,
    DeadLettersStore.layer,
    MailboxesStore.layer,
    // Endpoints, and what waits for them or for the network.
    RegistryStore.layer,
    SendQueueStore.layer,
    spawner,
    LeasesPlatform.layer,
    // What is done with messages and requests.
    RouterDefault.layer,
    SenderDefault.layer,
    DispatchDefault.layer,
    RegistrationDefault.layer,
    PresenceConnector.layer,
    AccountCheckPlatform.layer,
    // What the owner's events do.
    ControlDispatcherDefault.layer,
    events,
    // What operators see.
    BrokerStatusDefault.layer,
    DeadLetterQueueDefault.layer,
    LedgerAuditStore.layer
  )
}

/** A broker of these variants, all its services at hand. What the platform says is heard once plugins can connect. */
export const brokerWith = <E>(variants: Variants<E>) =>
  inOrder(
    IpcTokensMinted.layer,
    coreWith(variants),
    IpcServerHttp.layer,
    Layer.scopedDiscard(Effect.flatMap(ControlEvents, ({ listen }) => listen))
  )
