// The Functions app on the Flex Consumption plan, without its settings and without its code.
// https://learn.microsoft.com/azure/azure-functions/flex-consumption-how-to

@description('Name of the app, of all apps in Azure.')
@minLength(2)
@maxLength(60)
param name string

@description('Name of the plan.')
param planName string

@description('Name of the service in azure.yaml, by whose tag azd finds the app.')
param serviceName string

@description('Where they are.')
param location string

@description('Tags of both.')
param tags object

@description('Resource id of the Function\'s identity.')
param identityId string

@description('Address of the container for deployment packages.')
param packages string

@description('Version of Python.')
param pythonVersion string

@description('Memory of an instance: beside host and app, up to three processes of 256 MiB judge uploads.')
@allowed([
  2048
  4096
])
param memoryMB int

@description('Most instances that run at once.')
@minValue(1)
@maxValue(1000)
param mostInstances int

@description('How many events and requests one instance takes at a time.')
@minValue(1)
@maxValue(1000)
param concurrency int

@description('Instances that are kept ready, by group of functions; billed while idle.')
param alwaysReady array

@description('Subnet of the app\'s own, delegated to Microsoft.App/environments; empty for none.')
param subnetId string

@description('IPv4 ranges that may ask the app beside Event Grid; empty for all of them.')
param allowedAddresses array

var fromAddresses = [
  for (address, at) in allowedAddresses: {
    name: 'allowed-${at}'
    priority: 200 + at
    action: 'Allow'
    ipAddress: contains(address, '/') ? address : '${address}/32'
  }
]
var fromEventGrid = [
  {
    name: 'event-grid'
    priority: 100
    action: 'Allow'
    tag: 'ServiceTag'
    ipAddress: 'AzureEventGrid'
  }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  // checkov:skip=CKV_AZURE_212: Flex Consumption starts instances by itself
  // checkov:skip=CKV_AZURE_225: Flex Consumption starts instances by itself
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  // checkov:skip=CKV_AZURE_17: Event Grid has no client certificate; it has the key of its web hook
  // checkov:skip=CKV_AZURE_78: the plan has no FTP
  // checkov:skip=CKV_AZURE_212: Flex Consumption starts instances by itself
  // checkov:skip=CKV_AZURE_213: /api/healthz tells of storage and vault, and no instance is to be replaced for those
  // checkov:skip=CKV_AZURE_222: Event Grid does not deliver to private endpoints
  name: name
  location: location
  kind: 'functionapp,linux'
  tags: union(tags, { 'azd-service-name': serviceName })
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      // Not said where all may ask: rules that people made stay.
      ipSecurityRestrictions: empty(allowedAddresses) ? null : concat(fromEventGrid, fromAddresses)
      ipSecurityRestrictionsDefaultAction: empty(allowedAddresses) ? null : 'Deny'
    }
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packages
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: memoryMB
        maximumInstanceCount: mostInstances
        alwaysReady: alwaysReady
        triggers: {
          http: {
            perInstanceConcurrency: concurrency
          }
        }
      }
    }
  }
}

@description('Name of the app.')
output name string = app.name

@description('Address of the app.')
output url string = 'https://${app.properties.defaultHostName}'
