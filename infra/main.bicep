// All of certcast on Azure, in one resource group, for `azd up`. README.md beside this file tells what each file is.
// Event Grid's subscription is not here: it is refused before the app's code is there, and so it is the postdeploy
// hook's (event-subscription.bicep). Nothing here ran against a live Azure.

targetScope = 'resourceGroup'

@description('Name of the azd environment. It tells installations in one resource group apart.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Where everything is: a region with Flex Consumption.')
@minLength(1)
@metadata({
  azd: {
    type: 'location'
  }
})
param location string = resourceGroup().location

@description('Name of the storage account with the state; empty for one of its own.')
@maxLength(24)
param stateStorageName string = ''

@description('Name of the Functions host\'s storage account; empty for one of its own.')
@maxLength(24)
param hostStorageName string = ''

@description('Name of the key vault; empty for one of its own.')
@maxLength(24)
param keyVaultName string = ''

@description('Name of the Functions app; empty for one of its own.')
@maxLength(60)
param functionAppName string = ''

@description('Name of the storage account\'s system topic; empty for one of its own. An account has at most one: where it has one, that one\'s name.')
@maxLength(50)
param systemTopicName string = ''

@description('Copies of the state. The default keeps them in three zones, which not every region has.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_RAGRS'
  'Standard_GZRS'
  'Standard_RAGZRS'
])
param stateSku string = 'Standard_ZRS'

@description('Days for which deleted and replaced uploads are kept, with what is in their metadata; 0 for none.')
@minValue(0)
@maxValue(7)
param softDeleteDays int = 0

@description('Bits of the key-encryption key. Another size later is a rotation (docs/operations.md).')
@allowed([
  2048
  3072
  4096
])
param keySize int = 3072

@description('recover takes back a deleted vault of this name, with its key; needed once where the group was deleted.')
@allowed([
  'default'
  'recover'
])
param keyVaultCreateMode string = 'default'

@description('Version of Python that the app runs on. What is deployed is built for 3.13 (infra/hooks/package.py).')
@allowed([
  '3.13'
])
param pythonVersion string = '3.13'

@description('Memory of an instance of the app, in MB.')
@allowed([
  2048
  4096
])
param memoryMB int = 2048

@description('Most instances of the app, each function group by itself.')
@minValue(1)
@maxValue(1000)
param mostInstances int = 100

@description('Events and requests that one instance takes at a time: as many as messages, host.json.')
@minValue(1)
@maxValue(1000)
param httpConcurrency int = 16

@description('Instances that are kept ready and billed while idle: Event Grid\'s triggers are in the group http.')
param alwaysReady array = [
  {
    name: 'http'
    instanceCount: 1
  }
]

@description('What certificates must chain to: public, off, or the path of a PEM file in the package.')
@minLength(1)
param functionTrust string = 'public'

@description('Where spans of uploads go: azure-monitor, otlp, or empty for nowhere. The alert about failed installs needs azure-monitor.')
@allowed([
  ''
  'azure-monitor'
  'otlp'
])
param functionTraces string = 'azure-monitor'

@description('More application settings (docs/settings.md), by name. Those that people set by hand are kept, but for names that are set here.')
@secure()
param settings object = {}

@description('Whether a topic for outgoing events is made and used (docs/events).')
param outgoingEvents bool = false

@description('Whether agents get a queue role of their own. It takes Owner or User Access Administrator; without it they may delete every queue and put into the Function\'s.')
param agentQueueRole bool = true

@description('Whether agents may send telemetry to Application Insights (CERTCAST_TRACES=azure-monitor of an agent).')
param agentTelemetry bool = false

@description('Who operates certcast; azd fills in who runs it. Empty for no one.')
param principalId string = ''

@description('What kind of principal that is.')
@allowed([
  'Group'
  'ServicePrincipal'
  'User'
])
param principalType string = 'User'

@description('Whether that principal gets an operator\'s roles: to upload, to see the state of everything, to have an upload installed once more.')
param operatorRoles bool = true

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Whether alert rules are made.')
param alerts bool = true

@description('E-mail addresses that alerts are sent to; without one they show in the portal alone.')
param alertEmails array = []

@description('Whether storage and vault are reached through private endpoints, and closed to all others but those below.')
param privateNetwork bool = false

@description('Address range of the virtual network.')
param networkPrefix string = '10.77.0.0/24'

@description('Range in it for the app, which takes up to 40 addresses.')
param appSubnetPrefix string = '10.77.0.0/26'

@description('Range in it for the private endpoints.')
param endpointSubnetPrefix string = '10.77.0.64/26'

@description('IPv4 addresses, and ranges of at least four, that reach storage and vault all the same: uploaders, operators, agents outside.')
param allowedAddresses array = []

@description('Resource ids of subnets that reach them all the same, with the service endpoints Microsoft.Storage and Microsoft.KeyVault: agents\'.')
param allowedSubnets array = []

@description('IPv4 addresses and ranges that reach the app beside Event Grid: the status API and the dashboard. Empty for all.')
param appAllowedAddresses array = []

var token = uniqueString(resourceGroup().id, environmentName)
var prefix = 'certcast-${token}'
var tags = {
  'azd-env-name': environmentName
}
var appName = empty(functionAppName) ? '${prefix}-app' : functionAppName
var addresses = privateNetwork ? allowedAddresses : []
var subnets = privateNetwork ? allowedSubnets : []

module identities 'modules/identities.bicep' = {
  name: 'certcast-identities-${token}'
  params: {
    functionName: '${prefix}-function'
    agentName: '${prefix}-agent'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'certcast-monitoring-${token}'
  params: {
    workspaceName: '${prefix}-logs'
    componentName: '${prefix}-insights'
    location: location
    tags: tags
    retentionDays: logRetentionDays
  }
}

module state 'modules/storage.bicep' = {
  name: 'certcast-state-${token}'
  params: {
    name: empty(stateStorageName) ? 'certcast${token}' : stateStorageName
    location: location
    tags: tags
    sku: stateSku
    containers: [
      'certificates'
      'bundles'
    ]
    queues: [
      'certificate-recheck'
      'install-results'
    ]
    tables: [
      'uploads'
      'bindings'
      'instances'
      'installations'
      'history'
    ]
    softDeleteDays: softDeleteDays
    closed: privateNetwork
    allowedAddresses: addresses
    allowedSubnets: subnets
    workspaceId: monitoring.outputs.workspaceId
  }
}

module host 'modules/storage.bicep' = {
  name: 'certcast-host-${token}'
  params: {
    name: empty(hostStorageName) ? 'certhost${token}' : hostStorageName
    location: location
    tags: tags
    sku: 'Standard_LRS'
    containers: [
      'deployments'
      'deadletters'
    ]
    closed: privateNetwork
    allowedAddresses: addresses
    allowedSubnets: []
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'modules/vault.bicep' = {
  name: 'certcast-vault-${token}'
  params: {
    name: empty(keyVaultName) ? prefix : keyVaultName
    location: location
    tags: tags
    createMode: keyVaultCreateMode
    keySize: keySize
    closed: privateNetwork
    allowedAddresses: addresses
    allowedSubnets: subnets
    workspaceId: monitoring.outputs.workspaceId
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'certcast-network-${token}'
  params: {
    name: '${prefix}-network'
    location: location
    tags: tags
    addressPrefix: networkPrefix
    appPrefix: appSubnetPrefix
    endpointPrefix: endpointSubnetPrefix
    stateId: state.outputs.id
    hostId: host.outputs.id
    vaultId: vault.outputs.id
  }
}

module topic 'modules/topic.bicep' = if (outgoingEvents) {
  name: 'certcast-topic-${token}'
  params: {
    name: '${prefix}-events'
    location: location
    tags: tags
    principalId: identities.outputs.functionPrincipalId
  }
}

module functionRoles 'modules/function-roles.bicep' = {
  name: 'certcast-function-roles-${token}'
  params: {
    principalId: identities.outputs.functionPrincipalId
    stateName: state.outputs.name
    hostName: host.outputs.name
    vaultName: vault.outputs.name
    keyName: vault.outputs.keyName
    componentName: monitoring.outputs.componentName
  }
}

module agentRoles 'modules/agent-roles.bicep' = {
  name: 'certcast-agent-roles-${token}'
  params: {
    principalId: identities.outputs.agentPrincipalId
    stateName: state.outputs.name
    vaultName: vault.outputs.name
    keyName: vault.outputs.keyName
    componentName: monitoring.outputs.componentName
    customRole: agentQueueRole
    customRoleName: 'certcast agent queues ${token}'
    telemetry: agentTelemetry
  }
}

module operatorRights 'modules/operator-roles.bicep' = if (operatorRoles && !empty(principalId)) {
  name: 'certcast-operator-roles-${token}'
  params: {
    principalId: principalId
    principalType: principalType
    stateName: state.outputs.name
  }
}

module app 'modules/app.bicep' = {
  name: 'certcast-app-${token}'
  params: {
    name: appName
    planName: '${prefix}-plan'
    serviceName: 'certcast'
    location: location
    tags: tags
    identityId: identities.outputs.functionId
    packages: '${host.outputs.endpoints.blob}deployments'
    pythonVersion: pythonVersion
    memoryMB: memoryMB
    mostInstances: mostInstances
    concurrency: httpConcurrency
    alwaysReady: alwaysReady
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    allowedAddresses: appAllowedAddresses
  }
  // An app that starts before its roles are there is refused by its own storage.
  dependsOn: [
    functionRoles
  ]
}

var storage = environment().suffixes.storage
var hosts = {
  // By name: with addresses alone the host may fail to start (github.com/Azure/azure-functions-host/issues/11787).
  AzureWebJobsStorage__accountName: host.outputs.name
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identities.outputs.functionClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identities.outputs.functionClientId};Authorization=AAD'
}
var ours = {
  CERTCAST_STORAGE__blobServiceUri: 'https://${state.outputs.name}.blob.${storage}'
  CERTCAST_STORAGE__queueServiceUri: 'https://${state.outputs.name}.queue.${storage}'
  CERTCAST_STORAGE__tableServiceUri: 'https://${state.outputs.name}.table.${storage}'
  CERTCAST_STORAGE__credential: 'managedidentity'
  CERTCAST_STORAGE__clientId: identities.outputs.functionClientId
  CERTCAST_KEY_ENCRYPTION_KEY: vault.outputs.keyUrl
  CERTCAST_TRUST: functionTrust
  CERTCAST_TRACES: functionTraces
}
var told = outgoingEvents ? { CERTCAST_EVENTGRID_TOPIC: topic!.outputs.endpoint } : {}

module appSettings 'modules/settings.bicep' = {
  name: 'certcast-settings-${token}'
  params: {
    appName: app.outputs.name
    ours: union(hosts, ours, told, settings)
  }
}

module alertRules 'modules/alerts.bicep' = if (alerts) {
  name: 'certcast-alerts-${token}'
  params: {
    prefix: prefix
    location: location
    tags: tags
    emails: alertEmails
    componentId: monitoring.outputs.componentId
    workspaceId: monitoring.outputs.workspaceId
  }
}

// azd keeps these in the environment (`azd env get-values`): the hooks read them, and so may those who set up agents.

@description('Where everything is.')
output AZURE_LOCATION string = location

@description('The resource group.')
output AZURE_RESOURCE_GROUP string = resourceGroup().name

@description('The tenant: AZURE_TENANT_ID of agents without a managed identity.')
output AZURE_TENANT_ID string = tenant().tenantId

@description('Name of the Functions app.')
output CERTCAST_FUNCTION_APP string = app.outputs.name

@description('Address of the Functions app.')
output CERTCAST_FUNCTION_URL string = app.outputs.url

@description('Storage account with the uploads: CERTCAST_STORAGE__accountName of agents, --account of the command.')
output CERTCAST_STORAGE_ACCOUNT string = state.outputs.name

@description('Storage account of the Functions host, with the dead letters.')
output CERTCAST_HOST_STORAGE_ACCOUNT string = host.outputs.name

@description('The storage account\'s system topic, which the postdeploy hook makes.')
output CERTCAST_SYSTEM_TOPIC string = empty(systemTopicName) ? '${prefix}-uploads' : systemTopicName

@description('Key vault with the key-encryption key.')
output CERTCAST_KEY_VAULT string = vault.outputs.name

@description('Address of the key-encryption key: CERTCAST_KEY_ENCRYPTION_KEY of agents.')
output CERTCAST_KEY_ENCRYPTION_KEY string = vault.outputs.keyUrl

@description('Client id of the agents\' identity: CERTCAST_STORAGE__clientId of agents.')
output CERTCAST_AGENT_CLIENT_ID string = identities.outputs.agentClientId

@description('Resource id of the agents\' identity: what a machine or scale set is given.')
output CERTCAST_AGENT_IDENTITY string = identities.outputs.agentId

@description('Address of the topic for outgoing events; empty where there is none.')
output CERTCAST_EVENTGRID_TOPIC string = outgoingEvents ? topic!.outputs.endpoint : ''

@description('The virtual network, to peer agents\' networks with; empty where there is none.')
output CERTCAST_NETWORK string = privateNetwork ? network!.outputs.id : ''

@description('Whether alert rules are made, also for Event Grid.')
output CERTCAST_ALERTS string = string(alerts)

@description('Whom alerts are told to; empty where there is no one.')
output CERTCAST_ACTION_GROUP string = alerts ? alertRules!.outputs.actionGroupId : ''

@description('Where agents send telemetry, if they may.')
output APPLICATIONINSIGHTS_CONNECTION_STRING string = monitoring.outputs.connectionString
