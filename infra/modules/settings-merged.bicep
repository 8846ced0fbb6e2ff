// Writes application settings: what is given as ours over what is there, which is kept.

@description('Name of the Functions app.')
param appName string

@description('What is set now, by earlier deployments and by people.')
@secure()
param current object

@description('What goes over it.')
@secure()
param ours object

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  // These ask for properties of the config 'web'; this one is 'appsettings', a list of names and values.
  // checkov:skip=CKV_AZURE_13: not a property of application settings
  // checkov:skip=CKV_AZURE_63: not a property of application settings
  // checkov:skip=CKV_AZURE_65: not a property of application settings
  // checkov:skip=CKV_AZURE_66: not a property of application settings
  // checkov:skip=CKV_AZURE_80: not a property of application settings
  // checkov:skip=CKV_AZURE_88: not a property of application settings
  // checkov:skip=CKV_AZURE_222: not a property of application settings
  parent: app
  name: 'appsettings'
  properties: union(current, ours)
}
