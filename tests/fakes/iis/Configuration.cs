// The configuration elements of Microsoft.Web.Administration, as far as certcast's gateway uses them, with the real
// library's names and its strictness about types: a value of the wrong .NET type is refused, never converted.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Microsoft.Web.Administration
{
    public sealed class ConfigurationAttribute
    {
        internal ConfigurationAttribute(string name, object value, bool inherited)
        {
            Name = name;
            Value = value;
            IsInheritedFromDefaultValue = inherited;
        }

        public string Name { get; private set; }
        public object Value { get; private set; }
        public bool IsInheritedFromDefaultValue { get; private set; }
    }

    public sealed class ConfigurationAttributeCollection : IEnumerable<ConfigurationAttribute>
    {
        private readonly List<ConfigurationAttribute> attributes;

        internal ConfigurationAttributeCollection(List<ConfigurationAttribute> attributes)
        {
            this.attributes = attributes;
        }

        public int Count { get { return attributes.Count; } }
        public IEnumerator<ConfigurationAttribute> GetEnumerator() { return attributes.GetEnumerator(); }
        IEnumerator IEnumerable.GetEnumerator() { return attributes.GetEnumerator(); }
    }

    public class ConfigurationElement
    {
        private SortedDictionary<string, object> values;
        private bool shared;
        private readonly Dictionary<string, object> schema;
        private readonly Dictionary<string, ConfigurationElement> children = new Dictionary<string, ConfigurationElement>();

        internal ConfigurationElement(Dictionary<string, object> schema, SortedDictionary<string, object> values)
        {
            this.schema = schema;
            this.values = values;
        }

        // The committed values, until the first change makes a copy: thousands of elements are read, few are changed.
        internal ConfigurationElement(Dictionary<string, object> schema, SortedDictionary<string, object> values, bool shared)
            : this(schema, values)
        {
            this.shared = shared;
        }

        internal SortedDictionary<string, object> Values { get { return values; } }

        public ConfigurationAttributeCollection Attributes
        {
            get
            {
                var all = new List<ConfigurationAttribute>();
                foreach (var pair in schema)
                {
                    object value;
                    bool set = values.TryGetValue(pair.Key, out value);
                    all.Add(new ConfigurationAttribute(pair.Key, set ? value : pair.Value, !set));
                }
                return new ConfigurationAttributeCollection(all);
            }
        }

        public object GetAttributeValue(string attributeName)
        {
            object value;
            if (values.TryGetValue(attributeName, out value)) return value;
            return schema[Known(attributeName)];
        }

        public void SetAttributeValue(string attributeName, object value)
        {
            object fallback = schema[Known(attributeName)];
            if (fallback is uint)
            {
                if (value is int) value = checked((uint)(int)value);
                if (!(value is uint)) throw WrongType(attributeName, value);
            }
            else if (value == null || value.GetType() != fallback.GetType())
            {
                throw WrongType(attributeName, value);
            }
            if (shared)
            {
                values = new SortedDictionary<string, object>(values);
                shared = false;
            }
            values[attributeName] = value;
        }

        public object this[string attributeName]
        {
            get { return GetAttributeValue(attributeName); }
            set { SetAttributeValue(attributeName, value); }
        }

        public ConfigurationElement GetChildElement(string elementName)
        {
            ConfigurationElement child;
            if (!children.TryGetValue(elementName, out child)) throw new COMException("Element not found: " + elementName);
            return child;
        }

        internal ConfigurationElement AddChild(string elementName, ConfigurationElement child)
        {
            children[elementName] = child;
            return child;
        }

        private string Known(string attributeName)
        {
            if (!schema.ContainsKey(attributeName)) throw new COMException("Attribute not found: " + attributeName);
            return attributeName;
        }

        private static Exception WrongType(string attributeName, object value)
        {
            return new ArgumentException(
                "The type " + (value == null ? "null" : value.GetType().FullName) + " cannot be stored in " + attributeName);
        }
    }
}
