// Event Grid's subscription of on_blob_event to the uploads. Its dead letters are written by the identity of the system
// topic, which `az eventgrid system-topic event-subscription create` cannot ask for.
// Deployed after the app was published: Event Grid refuses a function that is not there.
// https://learn.microsoft.com/azure/templates/microsoft.eventgrid/systemtopics/eventsubscriptions
// https://learn.microsoft.com/azure/event-grid/managed-service-identity

@description('Storage account with the uploads.')
param storageAccountName string

@description('Storage account with the container for dead letters: the Functions host\'s.')
param hostStorageAccountName string

@description('Name of the Functions app.')
param functionAppName string

@description('Name of the storage account\'s system topic. An account has at most one: where it has one, that one\'s name.')
param systemTopicName string = 'certcast-uploads'

@description('What events are delivered in: Event Grid\'s own schema, or CloudEvents 1.0. The function takes either.')
@allowed([
  'EventGridSchema'
  'CloudEventSchemaV1_0'
])
param eventDeliverySchema string = 'EventGridSchema'

@description('Whether an alert tells of dead letters and of events that were dropped.')
param alerts bool = false

@description('Resource id of the action group that these alerts tell; empty for none.')
param actionGroupId string = ''

@description('Where the storage account is.')
param location string = resourceGroup().location

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource uploads 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageAccountName
}

resource host 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageAccountName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource deadLetters 'containers' existing = {
      name: 'deadletters'
    }
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: functionAppName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: systemTopicName
  location: location
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    source: uploads.id
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

resource mayWriteDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(host::blobs::deadLetters.id, topic.id, blobDataContributor)
  scope: host::blobs::deadLetters
  properties: {
    principalId: topic.identity.principalId
    // Without it a principal that was made a moment ago may not be found.
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
  }
}

resource subscription 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'certcast'
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${app.id}/functions/on_blob_event'
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: eventDeliverySchema
    filter: {
      includedEventTypes: [
        'Microsoft.Storage.BlobCreated'
        'Microsoft.Storage.BlobDeleted'
      ]
      subjectBeginsWith: '/blobServices/default/containers/certificates/blobs/'
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
    deadLetterWithResourceIdentity: {
      identity: {
        type: 'SystemAssigned'
      }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: host.id
          blobContainerName: host::blobs::deadLetters.name
        }
      }
    }
  }
  dependsOn: [
    mayWriteDeadLetters
  ]
}

module alertRules 'modules/event-alerts.bicep' = if (alerts) {
  name: 'certcast-event-alerts'
  params: {
    topicId: topic.id
    topicName: topic.name
    actionGroupId: actionGroupId
  }
}
