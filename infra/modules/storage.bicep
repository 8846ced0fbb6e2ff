// One storage account without shared keys, with its containers, queues and tables.
// https://learn.microsoft.com/azure/templates/microsoft.storage/storageaccounts

@description('Name of the account, of all accounts in Azure.')
@minLength(3)
@maxLength(24)
param name string

@description('Where it is.')
param location string

@description('Tags of the account.')
param tags object

@description('How many copies are kept, and where.')
param sku string

@description('Containers to make.')
param containers array

@description('Queues to make.')
param queues array = []

@description('Tables to make.')
param tables array = []

@description('Days for which deleted and replaced blobs are kept; 0 for none. Passwords in metadata are kept with them.')
@minValue(0)
@maxValue(7)
param softDeleteDays int = 0

@description('Whether only private endpoints, the networks and addresses below and Azure\'s trusted services are let in.')
param closed bool

@description('IPv4 addresses and ranges that are let in where it is closed.')
param allowedAddresses array

@description('Resource ids of subnets, with the service endpoint Microsoft.Storage, that are let in where it is closed.')
param allowedSubnets array

@description('Log Analytics workspace for the resource logs: who wrote and deleted blobs, and messages that were put.')
param workspaceId string

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  // checkov:skip=CKV_AZURE_43: the name is a parameter with its own limits
  // checkov:skip=CKV_AZURE_206: how many copies is the deployer's choice, stateSku
  // checkov:skip=CKV_AZURE_35: closed is the deployer's choice, as uploaders and agents may be anywhere
  // checkov:skip=CKV_AZURE_59: closed to all but trusted services, so that Event Grid can write dead letters
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    publicNetworkAccess: 'Enabled'
    supportsHttpsTrafficOnly: true
    networkAcls: {
      // Event Grid writes dead letters as a trusted service.
      bypass: 'AzureServices'
      defaultAction: closed ? 'Deny' : 'Allow'
      ipRules: [for address in allowedAddresses: { value: address, action: 'Allow' }]
      virtualNetworkRules: [for subnet in allowedSubnets: { id: subnet, action: 'Allow' }]
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    // An earlier version would keep a password that was removed from the metadata.
    isVersioningEnabled: false
    deleteRetentionPolicy: softDeleteDays == 0 ? { enabled: false } : { enabled: true, days: softDeleteDays }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: 7
    }
  }
}

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for each in containers: {
    parent: blobs
    name: each
    properties: {
      publicAccess: 'None'
    }
  }
]

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for each in queues: {
    parent: queueService
    name: each
  }
]

resource table 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' = [
  for each in tables: {
    parent: tableService
    name: each
  }
]

resource blobLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'certcast'
  scope: blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
      {
        category: 'StorageDelete'
        enabled: true
      }
    ]
  }
}

resource queueLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(queues)) {
  name: 'certcast'
  scope: queueService
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'StorageWrite'
        enabled: true
      }
    ]
  }
}

@description('Name of the account.')
output name string = account.name

@description('Resource id of the account.')
output id string = account.id

@description('Addresses of its services.')
output endpoints object = account.properties.primaryEndpoints
