// What a person or pipeline that operates certcast may do: upload, ask for everything's state, have an upload installed
// once more, and have certcast doctor look at everything. docs/deploy.md (section 9) and docs/doctor.md have the roles.

@description('Principal of the operator.')
param principalId string

@description('What kind of principal it is.')
@allowed([
  'Group'
  'ServicePrincipal'
  'User'
])
param principalType string

@description('Storage account with the uploads, bundles, tables and queues.')
param stateName string

var roles = loadJsonContent('roles.json')

resource state 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: stateName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' existing = {
  parent: state
  name: 'default'
}

resource uploads 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: 'certificates'
}

resource bundles 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' existing = {
  parent: blobs
  name: 'bundles'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' existing = {
  parent: state
  name: 'default'
}

resource rechecks 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' existing = {
  parent: queues
  name: 'certificate-recheck'
}

resource onUploads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(uploads.id, principalId, roles['Storage Blob Data Contributor'])
  scope: uploads
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Contributor'])
  }
}

resource onBundles 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(bundles.id, principalId, roles['Storage Blob Data Reader'])
  scope: bundles
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Blob Data Reader'])
  }
}

resource onTables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(state.id, principalId, roles['Storage Table Data Reader'])
  scope: state
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Table Data Reader'])
  }
}

resource onQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(state.id, principalId, roles['Storage Queue Data Reader'])
  scope: state
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Queue Data Reader'])
  }
}

resource onRechecks 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(rechecks.id, principalId, roles['Storage Queue Data Message Sender'])
  scope: rechecks
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['Storage Queue Data Message Sender'])
  }
}
