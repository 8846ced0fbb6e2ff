// What the identity of all agents may do. docs/deploy.md has the same roles, and docs/security.md what they come to.

@description('Principal of the agents\' identity.')
param principalId string

@description('Storage account with the uploads, bundles, tables and queues.')
param stateName string

@description('Key vault with the key-encryption key.')
param vaultName string

@description('Name of that key.')
param keyName string

@description('Application Insights resource.')
param componentName string

@description('Whether agents get a role of their own for queues, kept from the Function\'s queues by a condition. Making a role takes Owner or User Access Administrator. Without it they get Storage Queue Data Contributor, and may delete every queue and put into the Function\'s.')
param customRole bool

@description('Name of that role; of all roles in the tenant.')
param customRoleName string

@description('Whether agents may send telemetry to Application Insights.')
param telemetry bool

var roles = loadJsonContent('roles.json')

resource state 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: stateName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: state
  name: 'default'
}

resource bundles 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: 'bundles'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' existing = {
  parent: state
  name: 'default'
}

resource results 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = {
  parent: queues
  name: 'install-results'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2025-06-01' existing = {
  parent: state
  name: 'default'
}

resource bindings 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' existing = {
  parent: tables
  name: 'bindings'
}

resource installations 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' existing = {
  parent: tables
  name: 'installations'
}

resource instances 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-06-01' existing = {
  parent: tables
  name: 'instances'
}

resource vault 'Microsoft.KeyVault/vaults@2024-11-01' existing = {
  name: vaultName
}

resource key 'Microsoft.KeyVault/vaults/keys@2024-11-01' existing = {
  parent: vault
  name: keyName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

resource onBundles 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(bundles.id, principalId, roles['Storage Blob Data Reader'])
  scope: bundles
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Reader'])
  }
}

resource onBindings 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(bindings.id, principalId, roles['Storage Table Data Reader'])
  scope: bindings
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Table Data Reader'])
  }
}

resource onInstallations 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(installations.id, principalId, roles['Storage Table Data Reader'])
  scope: installations
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Table Data Reader'])
  }
}

resource onInstances 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(instances.id, principalId, roles['Storage Table Data Contributor'])
  scope: instances
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Table Data Contributor'])
  }
}

resource onResults 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(results.id, principalId, roles['Storage Queue Data Message Sender'])
  scope: results
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Queue Data Message Sender'])
  }
}

resource onKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(key.id, principalId, roles['Key Vault Crypto Service Encryption User'])
  scope: key
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Key Vault Crypto Service Encryption User'])
  }
}

resource onTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (telemetry) {
  name: guid(component.id, principalId, roles['Monitoring Metrics Publisher'])
  scope: component
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Monitoring Metrics Publisher'])
  }
}

// Agents make their own queues, so that the role for it is on the account.
resource agentQueues 'Microsoft.Authorization/roleDefinitions@2022-04-01' = if (customRole) {
  name: guid(resourceGroup().id, 'certcast agent queues')
  properties: {
    roleName: customRoleName
    description: 'Make queues, send to and process them'
    type: 'CustomRole'
    assignableScopes: [
      resourceGroup().id
    ]
    permissions: [
      {
        actions: [
          'Microsoft.Storage/storageAccounts/queueServices/queues/write'
        ]
        dataActions: [
          'Microsoft.Storage/storageAccounts/queueServices/queues/messages/add/action'
          'Microsoft.Storage/storageAccounts/queueServices/queues/messages/process/action'
        ]
      }
    ]
  }
}

resource onOwnQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (customRole) {
  name: guid(state.id, principalId, 'certcast agent queues')
  scope: state
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', agentQueues.name)
    condition: loadTextContent('agent-queues.condition')
    conditionVersion: '2.0'
  }
}

resource onAllQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!customRole) {
  name: guid(state.id, principalId, roles['Storage Queue Data Contributor'])
  scope: state
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Queue Data Contributor'])
  }
}
