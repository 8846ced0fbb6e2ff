// Alert rules over what the Function says in Application Insights and what Storage logs, and whom they tell.
// The queries are those of docs/observability/alerts, which tells what each finds.
// https://learn.microsoft.com/azure/templates/microsoft.insights/scheduledqueryrules

@description('Beginning of the names.')
param prefix string

@description('Where the rules are.')
param location string

@description('Tags of all.')
param tags object

@description('E-mail addresses that are told; empty for none, and the rules show in the portal alone.')
param emails array

@description('Resource id of the Application Insights resource.')
param componentId string

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

var rules = [
  {
    name: 'failed-installs'
    shown: 'certcast: instances cannot serve an upload'
    says: '`certcast status` with the upload\'s name has the reason, and docs/verdicts.md the cure.'
    query: loadTextContent('../../docs/observability/alerts/failed_installs.kql')
    scope: componentId
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'ending-certificates'
    shown: 'certcast: a certificate ends within 14 days, and nothing follows'
    says: 'Upload the renewed certificate; under the same name it takes this one\'s place.'
    query: loadTextContent('../../docs/observability/alerts/ending_certificates.kql')
    scope: componentId
    severity: 2
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'poison-queues'
    shown: 'certcast: a message was put aside'
    says: 'It is on the queue that the alert names, and the log of the Function or of that agent has the reason.'
    query: loadTextContent('../../docs/observability/alerts/poison_queues.kql')
    scope: workspaceId
    severity: 2
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'silent-instances'
    shown: 'certcast: an instance was silent for half an hour'
    says: 'It is taken for scaled in, and no upload waits for it. If it is still there, see to its agent.'
    query: loadTextContent('../../docs/observability/alerts/silent_instances.kql')
    scope: componentId
    severity: 2
    every: 'PT15M'
    window: 'PT1H'
  }
]

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(emails)) {
  name: '${prefix}-operators'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'certcast'
    emailReceivers: [
      for (address, at) in emails: {
        name: 'operator-${at}'
        emailAddress: address
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for each in rules: {
    name: '${prefix}-${each.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: each.shown
      description: each.says
      enabled: true
      severity: each.severity
      scopes: [
        each.scope
      ]
      evaluationFrequency: each.every
      windowSize: each.window
      autoMitigate: true
      // The tables are not there before the first line is written into them.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: each.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: empty(emails) ? [] : [group.id]
      }
    }
  }
]

@description('Resource id of the action group; empty where none is told.')
output actionGroupId string = empty(emails) ? '' : group.id
