// The topic for outgoing events (docs/events), which takes them from identities alone.

@description('Name of the topic.')
param name string

@description('Where it is.')
param location string

@description('Tags of the topic.')
param tags object

@description('Principal of the Function\'s identity, which publishes.')
param principalId string

var roles = loadJsonContent('roles.json')

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  // checkov:skip=CKV_AZURE_191: it delivers nothing by an identity of its own
  // checkov:skip=CKV_AZURE_193: subscribers of other teams may be anywhere; keys are off
  name: name
  location: location
  tags: tags
  properties: {
    disableLocalAuth: true
    inputSchema: 'CloudEventSchemaV1_0'
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

resource onTopic 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, principalId, roles['EventGrid Data Sender'])
  scope: topic
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles['EventGrid Data Sender'])
  }
}

@description('Where events are published.')
output endpoint string = topic.properties.endpoint
