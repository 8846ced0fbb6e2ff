// Alerts about events that did not reach the Function. The sweep finds their uploads within a minute all the same.
// https://learn.microsoft.com/azure/event-grid/monitor-event-delivery
// https://learn.microsoft.com/azure/templates/microsoft.insights/metricalerts

@description('Resource id of the system topic.')
param topicId string

@description('Name of the system topic, with which the alerts\' names begin.')
param topicName string

@description('Resource id of the action group that is told; empty for none.')
param actionGroupId string

var metrics = [
  {
    name: 'DeadLetteredCount'
    says: 'Events were given up and written to the container deadletters. See the app\'s log: it did not answer for a day.'
  }
  {
    name: 'DroppedEventCount'
    says: 'Events were given up and could not even be written to the container deadletters. See the topic\'s role there.'
  }
]

resource alert 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for metric in metrics: {
    name: '${topicName}-${metric.name}'
    location: 'global'
    properties: {
      description: metric.says
      enabled: true
      severity: 2
      scopes: [
        topicId
      ]
      evaluationFrequency: 'PT15M'
      windowSize: 'PT1H'
      autoMitigate: true
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: metric.name
            metricName: metric.name
            operator: 'GreaterThan'
            threshold: 0
            timeAggregation: 'Total'
          }
        ]
      }
      actions: empty(actionGroupId) ? [] : [{ actionGroupId: actionGroupId }]
    }
  }
]
