// The application settings: what this deployment sets goes over what is there, and everything else is kept.
// They are read here and written by another module: Resource Manager lets no resource read what it writes, and what is
// read must have a name that is known when this deployment begins.

@description('Name of the Functions app.')
param appName string

@description('What this deployment sets.')
@secure()
param ours object

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

module merged 'settings-merged.bicep' = {
  name: 'certcast-settings-merged-${uniqueString(appName)}'
  params: {
    appName: appName
    current: list('${app.id}/config/appsettings', '2025-03-01').properties
    ours: ours
  }
}
