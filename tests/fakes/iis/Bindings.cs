// Bindings of a site: the strict signatures of Microsoft.Web.Administration over the committed configuration and the
// http.sys records in World.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Microsoft.Web.Administration
{
    [Flags]
    public enum SslFlags
    {
        None = 0, Sni = 1, CentralCertStore = 2
    }

    public sealed class Binding : ConfigurationElement
    {
        internal static readonly Dictionary<string, object> Schema = new Dictionary<string, object>
        {
            { "protocol", "" }, { "bindingInformation", "" }, { "sslFlags", (uint)0 }, { "isDsMapperEnabled", false }
        };

        private byte[] certificateHash;
        private string certificateStoreName;
        private bool certificateUnread;

        internal Binding() : base(Schema, new SortedDictionary<string, object>()) { }

        internal Binding(SortedDictionary<string, object> committed) : base(Schema, committed, true)
        {
            certificateUnread = Protocol == "https";
        }

        // Whose collection it is in, once it is in one.
        internal ServerManager Manager { get; set; }

        public string Protocol
        {
            get { return (string)GetAttributeValue("protocol"); }
            set { SetAttributeValue("protocol", value); }
        }

        public string BindingInformation
        {
            get { return (string)GetAttributeValue("bindingInformation"); }
            set { SetAttributeValue("bindingInformation", value); }
        }

        public SslFlags SslFlags
        {
            get { return (SslFlags)(uint)GetAttributeValue("sslFlags"); }
            set { Change(SslFlags != value, () => SetAttributeValue("sslFlags", (uint)value)); }
        }

        public byte[] CertificateHash
        {
            get
            {
                if (Certcast.Stub.World.BrokenHashes.Contains(BindingInformation))
                    throw new COMException("The certificate record cannot be read", unchecked((int)0x80070490));
                ReadCertificate();
                return certificateHash;
            }
            set
            {
                ReadCertificate();
                bool differs = BitConverter.ToString(certificateHash ?? new byte[0]) != BitConverter.ToString(value ?? new byte[0]);
                Change(differs, () => certificateHash = value);
            }
        }

        public string CertificateStoreName
        {
            get
            {
                ReadCertificate();
                return certificateStoreName;
            }
            set
            {
                ReadCertificate();
                Change(certificateStoreName != value, () => certificateStoreName = value);
            }
        }

        internal bool HasCertificate
        {
            get
            {
                ReadCertificate();
                return Protocol == "https" && certificateHash != null;
            }
        }

        // On a binding that is in a collection, the record of http.sys is deleted and made again.
        private void Change(bool differs, Action change)
        {
            bool queues = differs && Manager != null && HasCertificate;
            if (queues) Manager.Later(new CertificateChange(this, true));
            change();
            if (queues) Manager.Later(new CertificateChange(this, false));
        }

        internal string Key { get { return Protocol + " " + BindingInformation; } }

        internal string Endpoint { get { return Certcast.Stub.World.EndpointOf(BindingInformation, SslFlags); } }

        // Neither hash nor store is in applicationHost.config: IIS reads both from http.sys.
        private void ReadCertificate()
        {
            if (!certificateUnread) return;
            certificateUnread = false;
            Certcast.Stub.SslRecord record;
            if (!Certcast.Stub.World.HttpSys.TryGetValue(Endpoint, out record)) return;
            certificateHash = record.Hash;
            certificateStoreName = record.Store;
        }
    }

    public sealed class BindingCollection : IEnumerable<Binding>
    {
        private readonly ServerManager manager;
        private readonly List<SortedDictionary<string, object>> committed;
        private List<Binding> loaded;
        private HashSet<string> keys;

        internal BindingCollection(ServerManager manager, List<SortedDictionary<string, object>> committed)
        {
            this.manager = manager;
            this.committed = committed;
        }

        public int Count { get { return Loaded.Count; } }
        public Binding this[int index] { get { return Loaded[index]; } }
        public IEnumerator<Binding> GetEnumerator() { return Loaded.GetEnumerator(); }
        IEnumerator IEnumerable.GetEnumerator() { return Loaded.GetEnumerator(); }

        // Read when first asked for, as the configuration system does.
        private List<Binding> Loaded
        {
            get
            {
                if (loaded == null)
                {
                    loaded = new List<Binding>(committed.Count);
                    foreach (var values in committed) loaded.Add(new Binding(values) { Manager = manager });
                }
                return loaded;
            }
        }

        private HashSet<string> Keys
        {
            get
            {
                if (keys == null)
                {
                    keys = new HashSet<string>(StringComparer.OrdinalIgnoreCase);
                    foreach (var binding in Loaded) keys.Add(binding.Key);
                }
                return keys;
            }
        }

        public Binding CreateElement()
        {
            return new Binding();
        }

        public Binding CreateElement(string elementTagName)
        {
            if (elementTagName != "binding") throw new COMException("Unknown element: " + elementTagName);
            return CreateElement();
        }

        public Binding Add(Binding element)
        {
            manager.CheckUsable();
            Certcast.Stub.World.FailIfInjected(element.BindingInformation);
            if (!Keys.Add(element.Key))
                throw new COMException(
                    "Cannot add duplicate collection entry of type 'binding' with combined key attributes " +
                    "'protocol, bindingInformation'", unchecked((int)0x800700B7));
            Loaded.Add(element);
            element.Manager = manager;
            if (element.HasCertificate)
            {
                manager.Drop(element);
                manager.Later(new CertificateChange(element, false));
            }
            return element;
        }

        public Binding Add(string bindingInformation, string bindingProtocol)
        {
            var element = CreateElement();
            element.Protocol = bindingProtocol;
            element.BindingInformation = bindingInformation;
            return Add(element);
        }

        public Binding Add(string bindingInformation, byte[] certificateHash, string certificateStoreName)
        {
            return Add(bindingInformation, certificateHash, certificateStoreName, SslFlags.None);
        }

        public Binding Add(string bindingInformation, byte[] certificateHash, string certificateStoreName, SslFlags sslFlags)
        {
            var element = CreateElement();
            element.Protocol = "https";
            element.BindingInformation = bindingInformation;
            if (sslFlags != SslFlags.None) element.SslFlags = sslFlags;
            element.CertificateHash = certificateHash;
            element.CertificateStoreName = certificateStoreName;
            return Add(element);
        }

        public void Remove(Binding element)
        {
            Remove(element, false);
        }

        public void Remove(Binding element, bool removeConfigOnly)
        {
            manager.CheckUsable();
            if (!Keys.Remove(element.Key)) throw new ArgumentException("The element is not in the collection");
            Loaded.Remove(element);
            if (!removeConfigOnly && element.Protocol == "https") manager.Later(new CertificateChange(element, true));
            element.Manager = null;
        }
    }

    internal sealed class CertificateChange
    {
        internal readonly Binding Element;
        internal readonly string Endpoint;
        internal readonly byte[] Hash;
        internal readonly string Store;
        internal readonly bool Removal;

        internal CertificateChange(Binding element, bool removal)
        {
            Element = element;
            Endpoint = element.Endpoint;
            Removal = removal;
            if (removal) return;
            Hash = element.CertificateHash;
            Store = element.CertificateStoreName;
        }
    }
}
