"""The package's own description of Caffe's format is Caffe's, field by field, and files are read whole or refused."""

import numpy as np
import pytest

from pycaffe_tools.base.errors import UserError
from pycaffe_tools.nets.files import schema as caffe_schema
from pycaffe_tools.nets.files.schema import builtin_schema, parse_prototxt, read_caffemodel, read_prototxt, schema

MESSAGES = sorted(caffe_schema._MESSAGES)


def described(message):
    """What the wire format and the text format know of a message's fields."""
    return {field.name: (field.number, field.type, field.label, field.default_value if field.label != 3 else None,
                         field.GetOptions().packed,
                         field.message_type.name if field.message_type else None,
                         {value.name: value.number for value in field.enum_type.values} if field.enum_type else None)
            for field in message.DESCRIPTOR.fields}


@pytest.mark.caffe
@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_is_the_one_of_caffe(name):
    own, caffe = described(getattr(builtin_schema(), name)), described(getattr(schema(), name))
    assert schema() is not builtin_schema()
    later = {field for message, field in caffe_schema.LATER_FIELDS if message == name and field not in caffe}
    differing = {field: (own[field], caffe.get(field)) for field in set(own) - later if own[field] != caffe.get(field)}
    assert not differing


@pytest.mark.caffe
def test_bytes_of_one_schema_are_read_by_the_other():
    def filled(classes):
        net = classes.NetParameter(name="n")
        layer = net.layer.add(name="c", type="Convolution", bottom=["data"], top=["c"])
        layer.convolution_param.num_output = 3
        layer.convolution_param.kernel_size.extend([5, 3])
        layer.include.add(phase=0)
        blob = layer.blobs.add()
        blob.shape.dim.extend([2, 2])
        blob.data.extend([1.5, -2, 0, 3e-8])
        return net

    own, caffe = filled(builtin_schema()), filled(schema())
    assert own.SerializeToString(deterministic=True) == caffe.SerializeToString(deterministic=True)
    assert caffe_schema.to_text(own) == caffe_schema.to_text(caffe)
    assert schema().NetParameter.FromString(own.SerializeToString()) == caffe


def test_builtin_schema_reads_a_network_without_caffe(monkeypatch):
    monkeypatch.setattr(caffe_schema, "schema", builtin_schema)
    net = parse_prototxt('name: "x" layer { name: "c" type: "Convolution" convolution_param { num_output: 2 } }')
    assert type(net) is builtin_schema().NetParameter
    assert (net.layer[0].convolution_param.num_output, net.layer[0].convolution_param.bias_term) == (2, True)


@pytest.mark.parametrize("text", ["layer { name: 'a' ", "layer { nonsense: 1 }", "layer { name: 3 }", "{"])
def test_a_broken_prototxt_is_refused_with_its_name_and_line(text, tmp_path):
    path = tmp_path / "broken.prototxt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.prototxt: not a valid NetParameter at 1:\d+"):
        read_prototxt(path)


def test_a_truncated_caffemodel_is_refused_wherever_it_is_cut(tmp_path):
    model = schema().NetParameter(name="n")
    blob = model.layer.add(name="ip", type="InnerProduct").blobs.add()
    blob.shape.dim.extend([4, 5])
    blob.data.extend(np.arange(20, dtype=np.float32))
    whole = model.SerializeToString()
    path = tmp_path / "cut.caffemodel"
    path.write_bytes(whole)
    assert read_caffemodel(path) == model
    accepted = []
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        try:
            read_caffemodel(path)
            accepted.append(length)
        except UserError as error:
            assert "cut.caffemodel: is not a whole caffemodel" in str(error)
    # Only behind the name, where no layer has begun, is a shorter file a message too.
    assert accepted == [len(schema().NetParameter(name="n").SerializeToString())]


def test_another_kind_of_file_is_no_caffemodel(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(64)))
    with pytest.raises(UserError, match="picture.png: is not a whole caffemodel"):
        read_caffemodel(tmp_path / "picture.png")


def test_a_tiff_is_no_caffemodel_and_protobuf_says_nothing_beside_it(tmp_path, recwarn):
    """Its first byte reads as the end of a group, which protobuf's C++ answers with a warning only."""
    (tmp_path / "stack.tif").write_bytes(b"II*\0" + bytes(64))
    with pytest.raises(UserError, match="stack.tif: is not a whole caffemodel"):
        read_caffemodel(tmp_path / "stack.tif")
    assert not recwarn.list


def test_a_binary_file_is_no_prototxt(tmp_path):
    (tmp_path / "w.caffemodel").write_bytes(b"\n\x01N\0\0")
    with pytest.raises(UserError, match="w.caffemodel: is a binary file and no prototxt; check the order"):
        read_prototxt(tmp_path / "w.caffemodel")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.prototxt: there is no such file"):
        read_prototxt(tmp_path / "nowhere.prototxt")
    with pytest.raises(UserError, match="is a folder"):
        read_caffemodel(tmp_path)
