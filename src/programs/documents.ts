/** The documents that are made from the code, by their name under `docs`. */
import { OpenApi } from "@effect/platform"
import { environmentName, type SettingName, settings } from "../services/BrokerConfig.js"
import { IpcApi } from "../services/ipc/IpcApi.js"

export const documents = (): Record<string, string> => ({
  "openapi.json": `${JSON.stringify(OpenApi.fromApi(IpcApi), null, 2)}\n`,
  "settings.md": settingsTable()
})

const settingsTable = (): string => {
  const rows = Object.entries(settings).map(
    ([name, { about, default: value, unit }]) =>
      `| \`${name}\` | \`${environmentName(name as SettingName)}\` | ${value} | ${unit} | ${about} |`
  )
  return `# Settings

A setting is given in the configuration file (\`<base>/runtime-broker/config.json\`, or the file \`MASONS_BROKER_CONFIG\` names), in
the environment, or on the command line (\`runtime-broker start --set name=value\`); the later of these wins. The base directory is
\`MASONS_BROKER_USER_DATA\`, else the system's place for application data, for example \`~/.local/share/masons-runtime-broker\`.

| Setting | In the environment | Default | Unit | What it does |
|---|---|---|---|---|
${rows.join("\n")}
`
}
