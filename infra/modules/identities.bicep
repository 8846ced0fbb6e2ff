// Two user-assigned identities: the Function's, and the one that all agents share.

@description('Name of the Function\'s identity.')
param functionName string

@description('Name of the agents\' identity.')
param agentName string

@description('Where they are.')
param location string

@description('Tags of both.')
param tags object

resource forFunction 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: functionName
  location: location
  tags: tags
}

resource forAgent 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: agentName
  location: location
  tags: tags
}

@description('Resource id of the Function\'s identity.')
output functionId string = forFunction.id

@description('Client id of the Function\'s identity.')
output functionClientId string = forFunction.properties.clientId

@description('Principal of the Function\'s identity, to which roles are given.')
output functionPrincipalId string = forFunction.properties.principalId

@description('Resource id of the agents\' identity, which machines are given.')
output agentId string = forAgent.id

@description('Client id of the agents\' identity, for their settings.')
output agentClientId string = forAgent.properties.clientId

@description('Principal of the agents\' identity, to which roles are given.')
output agentPrincipalId string = forAgent.properties.principalId
