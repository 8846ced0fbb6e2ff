// A virtual network for the app, with private endpoints for both storage accounts and the vault, and the private DNS
// zones by which their names lead there. Agents reach them where their network is peered with this one and linked to the
// zones.
// https://learn.microsoft.com/azure/azure-functions/flex-consumption-how-to#enable-virtual-network-integration

@description('Name of the virtual network.')
param name string

@description('Where it is.')
param location string

@description('Tags of everything here.')
param tags object

@description('Its address range.')
param addressPrefix string

@description('Range of the app\'s subnet, which takes up to 40 addresses.')
param appPrefix string

@description('Range of the subnet with the private endpoints.')
param endpointPrefix string

@description('Resource id of the storage account with the state.')
param stateId string

@description('Resource id of the Functions host\'s storage account.')
param hostId string

@description('Resource id of the key vault.')
param vaultId string

var storage = environment().suffixes.storage
var zones = [
  'privatelink.blob.${storage}'
  'privatelink.queue.${storage}'
  'privatelink.table.${storage}'
  'privatelink.vaultcore.azure.net'
]
var endpoints = [
  { name: 'state-blob', resource: stateId, group: 'blob', zone: 0 }
  { name: 'state-queue', resource: stateId, group: 'queue', zone: 1 }
  { name: 'state-table', resource: stateId, group: 'table', zone: 2 }
  { name: 'host-blob', resource: hostId, group: 'blob', zone: 0 }
  { name: 'host-queue', resource: hostId, group: 'queue', zone: 1 }
  { name: 'host-table', resource: hostId, group: 'table', zone: 2 }
  { name: 'vault', resource: vaultId, group: 'vault', zone: 3 }
]

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    // Within the network and not as resources of their own: a subnet that the list lacks would be deleted again.
    subnets: [
      {
        // The name may hold no underscore.
        name: 'app'
        properties: {
          addressPrefix: appPrefix
          delegations: [
            {
              name: 'flex-consumption'
              properties: {
                serviceName: 'Microsoft.App/environments'
              }
            }
          ]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointPrefix
          privateEndpointNetworkPolicies: 'Disabled'
        }
      }
    ]
  }
}

resource appSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' existing = {
  parent: network
  name: 'app'
}

resource endpointSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' existing = {
  parent: network
  name: 'endpoints'
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for each in zones: {
    name: each
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (each, at) in zones: {
    parent: zone[at]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: network.id
      }
    }
  }
]

resource endpoint 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for each in endpoints: {
    name: '${name}-${each.name}'
    location: location
    tags: tags
    properties: {
      subnet: {
        id: endpointSubnet.id
      }
      privateLinkServiceConnections: [
        {
          name: each.name
          properties: {
            privateLinkServiceId: each.resource
            groupIds: [
              each.group
            ]
          }
        }
      ]
    }
  }
]

resource records 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (each, at) in endpoints: {
    parent: endpoint[at]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: each.group
          properties: {
            privateDnsZoneId: zone[each.zone].id
          }
        }
      ]
    }
  }
]

@description('Resource id of the network, to peer agents\' networks with.')
output id string = network.id

@description('Resource id of the app\'s subnet.')
output appSubnetId string = appSubnet.id
