"""Caffe's protobuf messages, with or without Caffe.

Where Caffe is installed its own ``caffe_pb2`` is used, so that every layer
and option of that build is understood.  Elsewhere the table below describes
the part of Caffe 1.0's format (BVLC/caffe, ``src/caffe/proto/caffe.proto``)
that this package works with; field numbers are part of the file format, and a
test compares each of them with ``caffe_pb2``.  A prototxt that uses anything
else is refused by name rather than read in part.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from ...base.errors import UserError
from ...base.files import PathLike

# message: "field number type [label or default]" lines.  ``*`` repeated,
# ``+`` repeated and packed; types in capitals are messages, in <> enumerations.
_ENUMS = {
    "Phase": ["TRAIN", "TEST"],
    "PoolMethod": ["MAX", "AVE", "STOCHASTIC"],
    "RoundMode": ["CEIL", "FLOOR"],
    "EltwiseOp": ["PROD", "SUM", "MAX"],
    "NormRegion": ["ACROSS_CHANNELS", "WITHIN_CHANNEL"],
    "Engine": ["DEFAULT", "CAFFE", "CUDNN"],
    "NormalizationMode": ["FULL", "VALID", "BATCH_SIZE", "NONE"],
    "VarianceNorm": ["FAN_IN", "FAN_OUT", "AVERAGE"],
    "SolverMode": ["CPU", "GPU"],
}
_MESSAGES = {
    "BlobShape": "dim 1 int64+",
    "BlobProto": "num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data 5 float+, "
                 "diff 6 float+, shape 7 BlobShape, double_data 8 double+, double_diff 9 double+",
    "FillerParameter": "type 1 string=constant, value 2 float, min 3 float, max 4 float=1, mean 5 float, "
                       "std 6 float=1, sparse 7 int32=-1, variance_norm 8 <VarianceNorm>",
    "NetState": "phase 1 <Phase>=TEST, level 2 int32, stage 3 string*",
    "NetStateRule": "phase 1 <Phase>, min_level 2 int32, max_level 3 int32, stage 4 string*, not_stage 5 string*",
    "ParamSpec": "name 1 string, lr_mult 3 float=1, decay_mult 4 float=1",
    "LossParameter": "ignore_label 1 int32, normalize 2 bool, normalization 3 <NormalizationMode>=VALID",
    "AccuracyParameter": "top_k 1 uint32=1, axis 2 int32=1, ignore_label 3 int32",
    "ConcatParameter": "concat_dim 1 uint32=1, axis 2 int32=1",
    "ConvolutionParameter": "num_output 1 uint32, bias_term 2 bool=true, pad 3 uint32*, kernel_size 4 uint32*, "
                            "group 5 uint32=1, stride 6 uint32*, weight_filler 7 FillerParameter, "
                            "bias_filler 8 FillerParameter, pad_h 9 uint32=0, pad_w 10 uint32=0, kernel_h 11 uint32, "
                            "kernel_w 12 uint32, stride_h 13 uint32, stride_w 14 uint32, engine 15 <Engine>=DEFAULT, "
                            "axis 16 int32=1, dilation 18 uint32*",
    "CropParameter": "axis 1 int32=2, offset 2 uint32*",
    "DropoutParameter": "dropout_ratio 1 float=0.5",
    "DummyDataParameter": "data_filler 1 FillerParameter*, shape 6 BlobShape*",
    "EltwiseParameter": "operation 1 <EltwiseOp>=SUM, coeff 2 float*, stable_prod_grad 3 bool=true",
    "FlattenParameter": "axis 1 int32=1, end_axis 2 int32=-1",
    "HDF5DataParameter": "source 1 string, batch_size 2 uint32, shuffle 3 bool",
    "InnerProductParameter": "num_output 1 uint32, bias_term 2 bool=true, weight_filler 3 FillerParameter, "
                             "bias_filler 4 FillerParameter, axis 5 int32=1, transpose 6 bool",
    "InputParameter": "shape 1 BlobShape*",
    "LRNParameter": "local_size 1 uint32=5, alpha 2 float=1, beta 3 float=0.75, norm_region 4 <NormRegion>, "
                    "k 5 float=1, engine 6 <Engine>=DEFAULT",
    "PoolingParameter": "pool 1 <PoolMethod>, kernel_size 2 uint32, stride 3 uint32=1, pad 4 uint32=0, "
                        "kernel_h 5 uint32, kernel_w 6 uint32, stride_h 7 uint32, stride_w 8 uint32, pad_h 9 uint32=0, "
                        "pad_w 10 uint32=0, engine 11 <Engine>=DEFAULT, global_pooling 12 bool, "
                        "round_mode 13 <RoundMode>=CEIL",
    "PowerParameter": "power 1 float=1, scale 2 float=1, shift 3 float=0",
    "PReLUParameter": "filler 1 FillerParameter, channel_shared 2 bool",
    "ReLUParameter": "negative_slope 1 float=0, engine 2 <Engine>=DEFAULT",
    "BatchNormParameter": "use_global_stats 1 bool, moving_average_fraction 2 float=0.999, eps 3 float=1e-05",
    "ScaleParameter": "axis 1 int32=1, num_axes 2 int32=1, filler 3 FillerParameter, bias_term 4 bool, "
                      "bias_filler 5 FillerParameter",
    "ReshapeParameter": "shape 1 BlobShape, axis 2 int32=0, num_axes 3 int32=-1",
    "SliceParameter": "slice_dim 1 uint32=1, slice_point 2 uint32*, axis 3 int32=1",
    "SoftmaxParameter": "engine 1 <Engine>=DEFAULT, axis 2 int32=1",
    "LayerParameter": "name 1 string, type 2 string, bottom 3 string*, top 4 string*, loss_weight 5 float*, "
                      "param 6 ParamSpec*, blobs 7 BlobProto*, include 8 NetStateRule*, exclude 9 NetStateRule*, "
                      "phase 10 <Phase>, propagate_down 11 bool*, loss_param 101 LossParameter, "
                      "accuracy_param 102 AccuracyParameter, concat_param 104 ConcatParameter, "
                      "convolution_param 106 ConvolutionParameter, dropout_param 108 DropoutParameter, "
                      "dummy_data_param 109 DummyDataParameter, eltwise_param 110 EltwiseParameter, "
                      "hdf5_data_param 112 HDF5DataParameter, inner_product_param 117 InnerProductParameter, "
                      "lrn_param 118 LRNParameter, pooling_param 121 PoolingParameter, "
                      "power_param 122 PowerParameter, relu_param 123 ReLUParameter, "
                      "softmax_param 125 SoftmaxParameter, slice_param 126 SliceParameter, "
                      "prelu_param 131 PReLUParameter, reshape_param 133 ReshapeParameter, "
                      "flatten_param 135 FlattenParameter, batch_norm_param 139 BatchNormParameter, "
                      "scale_param 142 ScaleParameter, input_param 143 InputParameter, crop_param 144 CropParameter",
    "NetParameter": "name 1 string, input 3 string*, input_dim 4 int32*, force_backward 5 bool, state 6 NetState, "
                    "debug_info 7 bool, input_shape 8 BlobShape*, layer 100 LayerParameter*",
    "SolverParameter": "train_net 1 string, test_iter 3 int32*, test_interval 4 int32=0, base_lr 5 float, "
                       "display 6 int32, max_iter 7 int32, lr_policy 8 string, gamma 9 float, power 10 float, "
                       "momentum 11 float, weight_decay 12 float, stepsize 13 int32, snapshot 14 int32=0, "
                       "snapshot_prefix 15 string, solver_mode 17 <SolverMode>=GPU, random_seed 20 int64=-1, "
                       "net 24 string, regularization_type 29 string=L2, average_loss 33 int32=1, iter_size 36 int32=1, "
                       "type 40 string=SGD",
}
_PACKAGE = "caffe_format"

LATER_FIELDS = frozenset({("PoolingParameter", "round_mode")})
"""Fields of the table above that came after Caffe 1.0; Debian's build has them, others may not."""


@lru_cache(maxsize=None)
def schema() -> Any:
    """The message classes (``NetParameter``, ``LayerParameter``, ``BlobProto`` ...) as attributes."""
    return _installed_caffe() or builtin_schema()


def _installed_caffe() -> Any:
    """Caffe's own ``caffe_pb2``, loaded without the rest of Caffe (which takes a second); None without Caffe."""
    name = "caffe.proto.caffe_pb2"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("caffe")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "proto" / "caffe_pb2.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                continue
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


@lru_cache(maxsize=None)
def builtin_schema() -> Any:
    """The message classes built from this module's own table."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return SimpleNamespace(**{name: make(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES})


def _describe(message: descriptor_pb2.DescriptorProto, fields: str) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    for text in fields.split(", "):
        name, number, kind = text.split(" ")
        kind, _, default = kind.partition("=")
        field = message.field.add(name=name, number=int(number))
        field.label = kinds.LABEL_REPEATED if kind[-1] in "*+" else kinds.LABEL_OPTIONAL
        field.options.packed = kind[-1] == "+"
        if kind[-1] != "+":
            field.ClearField("options")
        kind = kind.rstrip("*+")
        if default:
            field.default_value = default
        if kind.startswith("<"):
            enum_name = kind.strip("<>")
            field.type = kinds.TYPE_ENUM
            field.type_name = f".{_PACKAGE}.{message.name}.{enum_name}"
            # Values of one scope share a name space in protobuf, hence each message has its own enumeration.
            if enum_name not in [enum.name for enum in message.enum_type]:
                enum = message.enum_type.add(name=enum_name)
                for value_number, value in enumerate(_ENUMS[enum_name]):
                    enum.value.add(name=value, number=value_number)
        elif kind in _MESSAGES:
            field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        else:
            field.type = getattr(kinds, f"TYPE_{kind.upper()}")


def parse_prototxt(text: str, where: PathLike = "prototxt", message: str = "NetParameter") -> Any:
    """Parse protobuf text format.

    Parameters
    ----------
    text : the content.
    where : what to call it in a message.
    message : ``NetParameter`` or ``SolverParameter``.

    Raises
    ------
    UserError : not a message of that kind, or one that uses options which
        need an installed Caffe to be understood.
    """
    result = getattr(schema(), message)()
    try:
        text_format.Parse(text, result)
    except text_format.ParseError as error:
        hint = "" if _installed_caffe() else " (without Caffe installed only common layers are understood)"
        raise UserError(f"{where}: not a valid {message} at {error}{hint}; correct that line") from None
    return result


def read_prototxt(path: PathLike, message: str = "NetParameter") -> Any:
    """Read a prototxt file; see :func:`parse_prototxt`."""
    content = _read(path)
    if b"\0" in content:
        raise UserError(f"{path}: is a binary file and no prototxt; check the order of the arguments")
    return parse_prototxt(content.decode("utf-8", "replace"), path, message)


def read_caffemodel(path: PathLike) -> Any:
    """Read a binary ``.caffemodel`` as a NetParameter.

    Raises
    ------
    UserError : missing, truncated, or not a caffemodel.
    """
    result = schema().NetParameter()
    content = _read(path)
    # Protobuf's C++ gives up some files that are no message with a warning only.
    with warnings.catch_warnings(record=True) as given_up:
        warnings.simplefilter("always")
        try:
            result.ParseFromString(content)
            whole = not given_up
        except DecodeError:
            whole = False
    if not whole:
        raise UserError(f"{path}: is not a whole caffemodel (truncated, or another kind of file); "
                        f"copy or train it again")
    return result


def to_text(message: Any) -> str:
    """Protobuf text format of a message, as Caffe reads it."""
    text: str = text_format.MessageToString(message)
    return text


def _read(path: PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a file; check the path") from None
