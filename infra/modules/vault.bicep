// The key vault, with the one key that wraps the content keys of the bundles and never leaves it.
// A deployment that finds the key makes no new version: Key Vault's management API creates a key only where there is
// none ("Keys - Create If Not Exist"). Rotating it is docs/operations.md's.

@description('Name of the vault, of all vaults in Azure.')
@minLength(3)
@maxLength(24)
param name string

@description('Where it is.')
param location string

@description('Tags of the vault.')
param tags object

@description('recover takes a vault of this name that was deleted back, with its keys, once; its name is taken until then.')
@allowed([
  'default'
  'recover'
])
param createMode string

@description('Bits of the key. 3072 costs five times 2048 an operation, and the vault allows a quarter as many.')
@allowed([
  2048
  3072
  4096
])
param keySize int

@description('Whether only private endpoints, the networks and addresses below and Azure\'s trusted services are let in.')
param closed bool

@description('IPv4 addresses and ranges that are let in where it is closed.')
param allowedAddresses array

@description('Resource ids of subnets, with the service endpoint Microsoft.KeyVault, that are let in where it is closed.')
param allowedSubnets array

@description('Log Analytics workspace for the audit log.')
param workspaceId string

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' = {
  // checkov:skip=CKV_AZURE_109: closed is the deployer's choice, as agents may run anywhere
  // checkov:skip=CKV_AZURE_189: closed is the deployer's choice, as agents may run anywhere
  name: name
  location: location
  tags: tags
  properties: {
    createMode: createMode
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    // Without the key no bundle can be opened again.
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: closed ? 'Deny' : 'Allow'
      ipRules: [for address in allowedAddresses: { value: address }]
      virtualNetworkRules: [for subnet in allowedSubnets: { id: subnet }]
    }
  }
}

resource key 'Microsoft.KeyVault/vaults/keys@2024-11-01' = {
  // checkov:skip=CKV_AZURE_112: a key in hardware takes a premium vault; the standard one is enough for wrapping
  // checkov:skip=CKV_AZURE_40: agents must open old bundles with it, so it does not end by itself
  parent: vault
  name: 'certcast'
  properties: {
    kty: 'RSA'
    keySize: keySize
    keyOps: [
      'wrapKey'
      'unwrapKey'
    ]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'certcast'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
  }
}

@description('Name of the vault.')
output name string = vault.name

@description('Resource id of the vault.')
output id string = vault.id

@description('Name of the key.')
output keyName string = key.name

@description('Address of the key, without a version: bundles are sealed under the current one.')
output keyUrl string = key.properties.keyUri
